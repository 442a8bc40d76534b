"""reformer-export to-aoti"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reformer_export.cli.exporting import compiled_ops_option, model_options, out_options, show
from reformer_export.cli.options import common_options, pass_output
from reformer_export.cli.output import Output


@click.command("to-aoti")
@model_options
@compiled_ops_option
@click.option(
    "--isa",
    type=click.Choice(["avx2", "avx512"]),
    help="Instructions to compile for.  [default: the widest this machine has]",
)
@out_options
@common_options
@pass_output
def command(
    output: Output, model: str, out: Path, no_verify: bool, force: bool, **options: Any
) -> int:
    """Compile a checkpoint by AOTInductor in the folder OUT and verify it.

    OUT may be an artifact of the same checkpoint, which then holds model.pt2 as well. Needs a C++
    compiler, here and not where the artifact runs. A miss is exit code 3 and leaves OUT as it was.
    """
    with output.working() as progress:
        from reformer_export import to_aoti

        artifact = to_aoti(
            model, out, verify=not no_verify, force=force, progress=progress, **options
        )
    return show(output, artifact, "aoti")
