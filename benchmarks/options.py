"""Command-line options that all `make bench...` commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]


def suite_options(out: str, *, quick: str) -> Callable[[Command], Command]:
    """Adds --quick, --threads and --out to a command; `quick` is the time that --quick takes."""
    options = (
        click.option("--quick", is_flag=True, help=f"Measure only a part, in {quick}."),
        click.option(
            "--threads", type=click.IntRange(min=1), metavar="N", help="[default: all cores]"
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path(out),
            show_default=True,
            metavar="DIR",
        ),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
