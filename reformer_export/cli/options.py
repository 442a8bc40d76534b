"""Options that several verbs share, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reformer_export.cli.output import Output
from reformer_export.host.device import GRAPH_CHOICES
from reformer_ops.core.native import CHOICES

Command = TypeVar("Command", bound=Callable[..., Any])

pass_output = click.make_pass_decorator(Output, ensure=True)

PATH = click.Path(path_type=Path)

artifact_argument = click.argument("artifact", type=PATH)


ops_option = click.option(
    "--ops",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    help="native: our kernels; portable: standard operations; auto: native if installed.",
)


device_option = click.option(
    "--device", default="cpu", show_default=True, metavar="cpu|cuda[:N]", help="Where to run."
)

cuda_graph_option = click.option(
    "--cuda-graph",
    type=click.Choice(GRAPH_CHOICES),
    default="auto",
    show_default=True,
    help="On a GPU: auto captures the runs of repeated shapes as CUDA graphs, off captures none.",
)


class IntegerList(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas: 64,128."""

    name = "N[,N...]"

    def __init__(self, minimum: int = 1) -> None:
        self.minimum = minimum

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read the list; click reports a failure as a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 64,128.", param, ctx)
        for number in numbers:
            if number < self.minimum:
                self.fail(f"{number} is below {self.minimum}.", param, ctx)
        return numbers


class NameList(click.ParamType[tuple[str, ...]]):
    """Names separated by commas: sm80,sm89."""

    name = "NAME[,NAME...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split the list; click reports a failure as a usage error."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} is not a list of names such as sm80,sm89.", param, ctx)
        return names


def common_options(command: Command) -> Command:
    """Declare --json and -v for the parser and the help. `main` itself looks for both in the
    arguments, because a parsing error must already be reported in the right form."""
    for declare in (
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            help="Show the traceback of an error, and the log messages of libraries.",
        ),
        click.option(
            "--json",
            is_flag=True,
            expose_value=False,
            help="Print exactly one JSON document on stdout.",
        ),
    ):
        command = declare(command)
    return command
