"""reformer-export verify"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import (
    PATH,
    IntegerList,
    artifact_argument,
    common_options,
    ops_option,
    pass_output,
)
from reformer_export.cli.output import Output
from reformer_export.errors import ParityError
from reformer_ops.native import Choice


@click.command("verify")
@artifact_argument
@click.option(
    "--against",
    metavar="PATH_OR_HUB_ID",
    help="The checkpoint to compare with.  [default: the one the manifest names]",
)
@click.option("--lengths", type=IntegerList(), help="Sequence lengths to try.")
@click.option("--batch", "batches", type=IntegerList(), help="Batch sizes to try.")
@ops_option
@click.option(
    "--save-io", type=PATH, metavar="DIR", help="Save inputs and outputs there, for Polygraphy."
)
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    against: str | None,
    lengths: tuple[int, ...] | None,
    batches: tuple[int, ...] | None,
    ops: Choice,
    save_io: Path | None,
) -> int:
    """Compare ARTIFACT with the checkpoint it came from, stage by stage.

    Bucket ids first, then attention with the same buckets, then end to end. A miss is exit
    code 3.
    """
    with output.working() as progress:
        from reformer_export.parity import verify_artifact

        report = verify_artifact(
            artifact,
            against=against,
            lengths=lengths,
            batches=batches,
            ops=ops,
            save_to=save_io,
            progress=progress,
        )
    if output.as_json:
        output.document(report.to_json())
    else:
        for line in report.summary().splitlines():
            output.line(line)
    return 0 if report.passed else ParityError.exit_code
