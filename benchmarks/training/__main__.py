"""`make bench-train`: python -m benchmarks.training [--quick] [--threads N] [--out D]"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.options import suite_options
from reformer_export.errors import ReformerError


@click.command("python -m benchmarks.training")
@suite_options("build/bench-train", quick="half a minute")
def main(quick: bool, threads: int | None, out: Path) -> None:
    """Measure a training step: memory by depth and length, and time compared with others."""
    from benchmarks.training.measure import FULL_SCOPE, QUICK_SCOPE, bench_training
    from benchmarks.training.report import tables, write_report
    from reformer_export.bench.files import prepare_folder
    from reformer_export.cli.tables import console, table

    try:
        prepare_folder(out)
        report = bench_training(
            QUICK_SCOPE if quick else FULL_SCOPE,
            threads=threads,
            progress=lambda message: click.echo(message, err=True),
        )
        write_report(out, report)
    except ReformerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    shown = console()
    for title, (header, rows) in tables(report).items():
        shown.print(table(title, header, rows))
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"wrote {out}/results.json, table.md and training.png")
    sys.exit(1 if report.notes else 0)


if __name__ == "__main__":
    main()
