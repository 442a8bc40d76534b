"""`make bench-serve`: python -m benchmarks.serving [--quick] [--clients N] [--out DIR]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from reformer_export.errors import ReformerError

_MODEL = Path(__file__).parents[2] / "examples/bible-reformer"


@click.command("python -m benchmarks.serving")
@click.option("--quick", is_flag=True, help="Only a part, in one minute.")
@click.option("--model", type=click.Path(path_type=Path), default=_MODEL, help="A checkpoint.")
@click.option("--clients", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--longest", type=click.IntRange(min=1), default=4096, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build/bench-serve"), show_default=True
)
def main(quick: bool, model: Path, clients: int, longest: int, out: Path) -> None:
    """Compare the HTTP server's throughput with the bare runner's; report the latency."""
    from benchmarks.serving.measure import HEADER, measure
    from reformer_export.bench.files import prepare_folder
    from reformer_export.cli.tables import console, table

    try:
        prepare_folder(out)
        rows = measure(
            model,
            out,
            seconds=2 if quick else 10,
            rounds=2 if quick else 5,
            clients=clients,
            longest=longest,
            progress=lambda message: click.echo(message, err=True),
        )
    except ReformerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    title = "the HTTP server, compared with the bare runner in batches"
    console().print(table(title, HEADER, (row.cells() for row in rows)))
    (out / "results.json").write_text(json.dumps([row.to_json() for row in rows], indent=2) + "\n")
    click.echo(f"wrote {out}/results.json")


if __name__ == "__main__":
    main()
