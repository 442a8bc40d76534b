"""reformer-export verify"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import (
    PATH,
    IntegerList,
    common_options,
    device_option,
    ops_option,
    pass_output,
)
from reformer_export.cli.output import Output
from reformer_export.errors import ParityError
from reformer_export.host.device import CPU
from reformer_ops.core.native import Choice


@click.command("verify")
@click.argument("artifacts", metavar="ARTIFACT...", nargs=-1, required=True, type=PATH)
@click.option(
    "--against",
    metavar="PATH_OR_HUB_ID",
    help="The checkpoint to compare with.  [default: the one the manifest names]",
)
@click.option("--lengths", type=IntegerList(), help="Sequence lengths to try.")
@click.option("--batch", "batches", type=IntegerList(), help="Batch sizes to try.")
@click.option("--runtime", default="auto", show_default=True, metavar="NAME")
@ops_option
@device_option
@click.option(
    "--matrix",
    is_flag=True,
    help="Compare all runtimes that work here with the model and with each other; accepts several "
    "artifacts of one model.",
)
@click.option(
    "--out", type=PATH, metavar="DIR", help="With --matrix: write matrix.json and matrix.html."
)
@click.option(
    "--save-io", type=PATH, metavar="DIR", help="Save inputs and outputs to DIR, for Polygraphy."
)
@common_options
@pass_output
def command(
    output: Output,
    artifacts: tuple[Path, ...],
    against: str | None,
    lengths: tuple[int, ...] | None,
    batches: tuple[int, ...] | None,
    runtime: str,
    ops: Choice,
    device: str,
    matrix: bool,
    out: Path | None,
    save_io: Path | None,
) -> int:
    """Compare ARTIFACT with the checkpoint it came from, stage by stage.

    The stages are: bucket ids, attention with the same buckets, end to end. If one fails, the exit
    code is 3.
    """
    if matrix:
        if (runtime, ops, device) != ("auto", "auto", CPU):
            raise click.UsageError(
                "--matrix takes every runtime on the CPU: leave out --runtime, --ops and --device."
            )
        return _matrix(output, artifacts, against, lengths, batches, out)
    if len(artifacts) > 1 or out is not None:
        raise click.UsageError("Several artifacts and --out go with --matrix.")
    with output.working() as progress:
        from reformer_export.verification.parity import verify_artifact

        report = verify_artifact(
            artifacts[0],
            against=against,
            lengths=lengths,
            batches=batches,
            runtime=runtime,
            ops=ops,
            device=device,
            save_to=save_io,
            progress=progress,
        )
    if output.as_json:
        output.document(report.to_json())
    else:
        for line in report.summary().splitlines():
            output.line(line)
    return 0 if report.passed else ParityError.exit_code


def _matrix(
    output: Output,
    artifacts: tuple[Path, ...],
    against: str | None,
    lengths: tuple[int, ...] | None,
    batches: tuple[int, ...] | None,
    out: Path | None,
) -> int:
    with output.working() as progress:
        from reformer_export.verification.matrix import verify_matrix, write_matrix
        from reformer_export.verification.matrix.files import prepare_folder

        if out is not None:
            prepare_folder(out)
        report = verify_matrix(
            artifacts, against=against, lengths=lengths, batches=batches, progress=progress
        )
        written = [] if out is None else write_matrix(out, report)
    if output.as_json:
        output.document(report.to_json())
    else:
        from reformer_export.cli.tables import console, table

        title = f"largest difference from {report.reference.name}, by tokens"
        console().print(table(title, report.header, report.table()))
        for line in [*report.absent(), *(f"wrote {path}" for path in written), report.summary]:
            output.line(line)
    return 0 if report.passed else ParityError.exit_code
