"""`make bench`: python -m benchmarks [--quick] [--threads N] [--out DIR] [--before FILE]"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.options import suite_options
from reformer_export.errors import ReformerError


@click.command("python -m benchmarks")
@suite_options("build/bench", quick="about three minutes")
@click.option(
    "--before",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="results.json of an earlier run, to show its values beside the new ones.",
)
def main(quick: bool, threads: int | None, out: Path, before: Path | None) -> None:
    """Measure the speed and memory that the project promises; print them beside the limits.

    The exit code is 1 if a measurement failed with an error.
    """
    from benchmarks import bars
    from benchmarks.suite import FULL, QUICK, run_suite
    from reformer_export.cli.tables import console, table

    try:
        report = run_suite(
            out,
            scope=QUICK if quick else FULL,
            threads=threads,
            before=before,
            progress=lambda message: click.echo(message, err=True),
        )
    except ReformerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    shown = console()
    for name, part in report.parts.items():
        shown.print(table(f"{name}: {part.title}", part.header, part.rows()))
    shown.print(table("What we promise", bars.HEADER, (bar.row() for bar in report.bars)))
    for note in report.notes():
        click.echo(f"note: {note}", err=True)
    click.echo(f"wrote {out}/results.json, table.md and plots in {report.seconds / 60:.0f} min")
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
