"""`make bench-weights`: python -m benchmarks.weights [--quick] [--threads N] [--out DIR]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from benchmarks.options import suite_options
from reformer_export.errors import ReformerError


@click.command("python -m benchmarks.weights")
@suite_options("build/bench-weights", quick="six minutes")
def main(quick: bool, threads: int | None, out: Path) -> None:
    """Compare models with weights of fewer bits with the same models in fp32."""
    from benchmarks.weights.measure import FULL, HEADER, QUICK, measure
    from reformer_export.bench.files import prepare_folder
    from reformer_export.cli.tables import console, table

    try:
        prepare_folder(out)
        rows = measure(
            out,
            QUICK if quick else FULL,
            threads=threads,
            progress=lambda message: click.echo(message, err=True),
        )
    except ReformerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    console().print(
        table("weights of fewer bits against fp32", HEADER, (row.cells() for row in rows))
    )
    (out / "results.json").write_text(json.dumps([row.to_json() for row in rows], indent=2) + "\n")
    click.echo(f"wrote {out}/results.json")


if __name__ == "__main__":
    main()
