"""reformer-export to-aoti"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.exporting import (
    compiled_ops_option,
    model_options,
    out_options,
    show,
)
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
    output: Output,
    model: str,
    out: Path,
    task: str,
    dtype: str,
    max_length: int | None,
    num_buckets: tuple[int, ...] | None,
    hash_seed: int | None,
    ops: str,
    isa: str | None,
    no_verify: bool,
    force: bool,
    revision: str | None,
    ignore_config_keys: tuple[str, ...],
) -> int:
    """Compile a checkpoint by AOTInductor in the folder OUT and verify it.

    OUT may be an artifact of the same checkpoint, which then holds model.pt2 as well. Needs a C++
    compiler, here and not where the artifact runs. A miss is exit code 3 and leaves OUT as it was.
    """
    with output.working() as progress:
        from reformer_export.pipeline import to_aoti

        artifact = to_aoti(
            model,
            out,
            verify=not no_verify,
            task=task,
            dtype=dtype,
            max_length=max_length,
            num_buckets=num_buckets,
            hash_seed=hash_seed,
            ops=ops,
            isa=isa,
            force=force,
            revision=revision,
            ignore_config_keys=ignore_config_keys,
            progress=progress,
        )
    return show(output, artifact, "aoti")
