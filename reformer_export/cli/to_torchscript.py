"""reformer-export to-torchscript"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reformer_export.cli.exporting import compiled_ops_option, model_options, out_options, show
from reformer_export.cli.options import common_options, pass_output
from reformer_export.cli.output import Output


@click.command("to-torchscript")
@model_options
@compiled_ops_option
@out_options
@common_options
@pass_output
def command(
    output: Output, model: str, out: Path, no_verify: bool, force: bool, **options: Any
) -> int:
    """Export a checkpoint to TorchScript in the folder OUT and verify it.

    OUT may be an artifact of the same checkpoint: model.pt is then added to it. If the verification
    fails, the exit code is 3 and OUT does not change.
    """
    with output.working() as progress:
        from reformer_export import to_torchscript

        artifact = to_torchscript(
            model, out, verify=not no_verify, force=force, progress=progress, **options
        )
    return show(output, artifact, "torchscript")
