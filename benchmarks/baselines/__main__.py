"""`make bench-attention`: python -m benchmarks.baselines [--quick] [--threads N] [--out DIR]"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.options import suite_options
from reformer_export.errors import ReformerError


@click.command("python -m benchmarks.baselines")
@suite_options("build/bench-attention", quick="a few minutes")
@click.option(
    "--only",
    type=click.Choice(["speed", "learning"]),
    help="Measure one part. [default: both]",
)
def main(quick: bool, only: str | None, threads: int | None, out: Path) -> None:
    """Compare the Reformer's attention with others in the same model: time, memory, learning.

    The exit code is 1 if a measurement failed.
    """
    from benchmarks.baselines import duplication, speed
    from benchmarks.baselines.suite import QUICK, WHOLE, run_suite
    from reformer_export.cli.tables import console, table

    try:
        report = run_suite(
            out,
            scope=QUICK if quick else WHOLE,
            threads=threads,
            parts=("speed", "learning") if only is None else (only,),
            progress=lambda message: click.echo(message, err=True),
        )
    except ReformerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    shown = console()
    if report.speed is not None:
        title = f"One forward pass, {report.speed.threads} threads"
        shown.print(table(title, speed.HEADER, report.speed.rows()))
        for note in report.speed.notes:
            click.echo(f"note: {note}", err=True)
    if report.learned:
        title = f"Duplication task, {report.training.steps} steps"
        rows = (learned.row() for learned in report.learned)
        shown.print(table(title, duplication.HEADER, rows))
    click.echo(f"wrote {out}/results.json, table.md and plots in {report.seconds / 60:.0f} min")
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
