"""reformer-export to-executorch"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reformer_export.cli.exporting import model_options, out_options, show
from reformer_export.cli.options import common_options, pass_output
from reformer_export.cli.output import Output


@click.command("to-executorch")
@model_options
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Maximum number of sequences that the program takes at once. It reserves memory for "
    "--max-batch sequences of --max-length tokens.",
)
@out_options
@common_options
@pass_output
def command(
    output: Output, model: str, out: Path, no_verify: bool, force: bool, **options: Any
) -> int:
    """Export a checkpoint to ExecuTorch, for phones, in the folder OUT and verify it.

    OUT may be an artifact of the same checkpoint: model.pte is then added to it. If the
    verification fails, the exit code is 3 and OUT does not change.
    """
    with output.working() as progress:
        from reformer_export import to_executorch

        artifact = to_executorch(
            model, out, verify=not no_verify, force=force, progress=progress, **options
        )
    return show(output, artifact, "executorch")
