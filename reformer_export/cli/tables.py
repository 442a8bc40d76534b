"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDTH_IN_FILES = 140


def console() -> Console:
    """A console for stdout; if that is a file or a pipe, it is wide enough for every row."""
    made = Console()
    return made if made.is_terminal else Console(width=_WIDTH_IN_FILES)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table; columns of numbers are aligned to the right."""
    cells = [tuple(row) for row in rows]
    made = Table(title=escape(title))
    for column, name in enumerate(header):
        numbers = all(row[column][:1].isdigit() or row[column] in ("", "-") for row in cells)
        made.add_column(name, justify="right" if numbers else "left")
    for row in cells:
        made.add_row(*map(escape, row))
    return made


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same table in Markdown, without a title."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
