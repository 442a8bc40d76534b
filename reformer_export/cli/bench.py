"""reformer-export bench"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reformer_export.cli.options import (
    PATH,
    IntegerList,
    common_options,
    device_option,
    pass_output,
)
from reformer_export.cli.output import Output
from reformer_export.host.device import CPU

if TYPE_CHECKING:
    from reformer_export.bench.generation import GenerationReport
    from reformer_export.bench.ops import OpsReport
    from reformer_export.bench.report import BenchReport

AGAINST = ("hf", "full", "portable")


class _Names(click.ParamType[tuple[str, ...]]):
    """Names separated by commas: hf,full."""

    name = "NAME[,NAME...]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Read the list; click reports a failure as a usage error."""
        if isinstance(value, tuple):
            return value
        names = tuple(str(value).split(","))
        for name in names:
            if name not in AGAINST:
                self.fail(f"{name!r} is not one of {', '.join(AGAINST)}.", param, ctx)
        return names


@click.command("bench")
@click.argument("artifact", type=PATH, required=False)
@click.option(
    "--lengths",
    type=IntegerList(),
    help="Tokens in a sequence.  [default: 1024,4096,16384]  With --ops: in the comparison with "
    "torch's SDPA.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.  [default: all cores]"
)
@click.option(
    "--against",
    type=_Names(),
    help="hf: Hugging Face's eager model; full: softmax attention over the whole sequence in "
    "torch; portable: the artifact without native operators.",
)
@click.option(
    "--runtime",
    metavar="NAME",
    help="The runtime for ARTIFACT.  [default: the best installed one for its formats]",
)
@device_option
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Runs of each contender after a warm-up.",
)
@click.option(
    "--checkpoint",
    metavar="PATH_OR_HUB_ID",
    help="The weights for hf and full.  [default: the checkpoint that the manifest names]",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Refuse a run expected to take longer.",
)
@click.option(
    "--generate",
    is_flag=True,
    help="Measure one step of generation after --lengths tokens (default: 1024,16384,262144), for "
    "1 and 8 rows; --against accepts hf and portable.",
)
@click.option("--ops", is_flag=True, help="Measure only the operators, without ARTIFACT.")
@click.option("--out", type=PATH, metavar="DIR", help="Write results.json and plots (PNG) to DIR.")
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path | None,
    lengths: tuple[int, ...] | None,
    threads: int | None,
    against: tuple[str, ...] | None,
    runtime: str | None,
    device: str,
    repeat: int,
    checkpoint: str | None,
    patience: float,
    generate: bool,
    ops: bool,
    out: Path | None,
) -> int:
    """Measure the speed and memory of ARTIFACT and of the contenders that --against names.

    Contenders take turns, each in its own process. The exit code is 1 if a contender fails, or if
    ARTIFACT does not fit in memory or time (except with --generate). Other contenders that do not
    fit are only reported. docs/benchmarks.md explains the numbers.
    """
    if ops == (artifact is not None):
        raise click.UsageError("Give an ARTIFACT or --ops, and not both.")
    if ops and (against or checkpoint or runtime or device != CPU):
        raise click.UsageError(
            "--against, --checkpoint, --runtime and --device go with an ARTIFACT, not with --ops."
        )
    if generate and (ops or runtime or device != CPU):
        raise click.UsageError("--ops, --runtime and --device cannot be used with --generate.")
    report: BenchReport | GenerationReport | OpsReport
    with output.working() as progress:
        from reformer_export.bench import bench_artifact, bench_generation, bench_ops
        from reformer_export.bench.files import prepare_folder, write_report

        if out is not None:
            prepare_folder(out)
        if artifact is None:
            report = bench_ops(
                threads=threads, repeat=repeat, sdpa_lengths=lengths, progress=progress
            )
        elif generate:
            report = bench_generation(
                artifact,
                contexts=lengths,
                threads=threads,
                against=against or (),
                repeat=repeat,
                checkpoint=checkpoint,
                patience=patience,
                progress=progress,
            )
        else:
            report = bench_artifact(
                artifact,
                lengths=lengths,
                threads=threads,
                against=against or (),
                runtime=runtime or "auto",
                device=device,
                repeat=repeat,
                checkpoint=checkpoint,
                patience=patience,
                progress=progress,
            )
        written = [] if out is None else write_report(out, report)
    if output.as_json:
        output.document(report.to_json())
    else:
        _show(output, report, written)
    return 1 if report.failed else 0


def _show(
    output: Output, report: BenchReport | GenerationReport | OpsReport, written: list[Path]
) -> None:
    from reformer_export.cli.tables import console, table

    console().print(table(report.title, report.header, report.rows()))
    for trouble in report.troubles():
        output.line(trouble)
    for path in written:
        output.line(f"wrote {path}")
    for note in report.notes():
        output.note(note)
