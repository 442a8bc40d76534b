"""The output of a command: its result on stdout, everything else on stderr.

With --json, stdout is exactly one JSON document. Everything that a library prints while it works
goes to stderr, so that it never mixes with our output.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import click

Progress = Callable[[str], None]


class Output:
    """The output of one invocation; `as_json` and `verbose` are its --json and -v."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose

    @contextmanager
    def working(self) -> Iterator[Progress]:
        """Context for the library call of a verb; yields a function that prints progress messages
        on stderr."""
        with _spinner(sys.stderr) as progress, redirect_stdout(sys.stderr):
            yield progress

    def note(self, message: str) -> None:
        """Print a note about a success. Not for --json, where the document contains the notes."""
        click.echo(f"note: {one_line(message)}", err=True)

    def log(self, message: str) -> None:
        """Print additional lines to stderr, such as the log of a library with -v."""
        click.echo(printable(message.rstrip()), err=True)

    def rows(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print lines of a label and a text, aligned."""
        lines = [(label, printable(text)) for label, text in rows]
        width = max((len(label) for label, _ in lines), default=0)
        for label, text in lines:
            self.line(f"{label:<{width}}  {text}".rstrip())

    def line(self, text: str) -> None:
        """Print a line of the result; characters that the stream cannot encode are escaped."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding))

    def document(self, value: Mapping[str, Any]) -> None:
        """Print the only JSON document; numbers that JSON cannot express become null."""
        click.echo(json.dumps(jsonable(value), indent=2))


@contextmanager
def _spinner(stream: TextIO) -> Iterator[Progress]:
    """Show a spinner on a terminal; elsewhere print one line for each message."""
    if not stream.isatty():
        yield lambda message: click.echo(one_line(message), file=stream)
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(file=stream)
    with console.status("starting") as status:
        yield lambda message: status.update(escape(one_line(message)))


def one_line(message: object) -> str:
    """A message without line breaks or control characters, as it may quote a malicious file."""
    return printable(" ".join(str(message).split()))


def printable(text: str) -> str:
    """Replace control characters and lone surrogates by escapes, so that they do not reach the
    terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_text(text: str) -> str:
    """`printable`, but line breaks and tabs stay."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)


def jsonable(value: Any) -> Any:
    """Convert NumPy numbers and arrays, paths and tuples to plain JSON values."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy, without importing it here
        return jsonable(value.tolist())
    return value
