"""The entry point: finds the command, and turns errors into one line and an exit code.

Exit codes: 0 ok, 1 failure, 2 usage, 3 parity miss, 130 interrupted (143 terminated).
"""

from __future__ import annotations

import gc
import importlib
import keyword
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from reformer_export.cli.output import Output, one_line
from reformer_export.errors import GenerationLimitError, ParityError, ReformerError
from reformer_export.exporters.registry import FORMATS

PROGRAM = "reformer-export"

_VERBS = {
    **{entry.verb: entry.summary for entry in FORMATS.values()},
    "to-tensorrt": "Build a TensorRT engine from an artifact.",
    "to-web": "Make a page that runs an artifact in the browser.",
    "serve-web": "Serve such a page to browsers on this machine.",
    "import": "Write a checkpoint of another library in our own layout.",
    "verify": "Compare an artifact with the checkpoint it came from.",
    "run": "Run an artifact on token ids, a text or a series of numbers.",
    "generate": "Continue a text, token by token.",
    "serve": "Serve an artifact over HTTP.",
    "map": "Run an artifact on every document of a corpus.",
    "to-triton": "Add an artifact to a model repository for Triton Inference Server.",
    "package": "Pack an artifact with everything that a device needs to run it.",
    "bench": "Measure an artifact's speed and memory.",
    "inspect": "Show what is in an artifact; check its hashes.",
    "add-kernels": "Add kernels for NVIDIA GPUs to an artifact; no GPU is needed.",
    "build-kernels": "Compile GPU kernels ahead of time; no GPU is needed.",
    "doctor": "Show what is installed and usable here, and why the rest is not.",
}


class _Verbs(click.Group):
    """A group that imports a verb only when it is used, so that --help is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        name = cmd_name.replace("-", "_") + "_" * keyword.iskeyword(cmd_name)
        module = importlib.import_module(f"reformer_export.cli.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from reformer_export import __version__

        click.echo(f"{PROGRAM} {__version__}")
        ctx.exit()


@click.group(
    PROGRAM,
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 failure, 2 usage, 3 parity miss.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.option(
    "-v", "--verbose", is_flag=True, expose_value=False, help="Show the traceback of an error."
)
def cli() -> None:
    """Export Reformer checkpoints to verified artifacts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    with terminable():
        return _main(sys.argv[1:] if arguments is None else list(arguments))


def run() -> int:
    """`main` for a process that exits afterwards: the console script and `python -m`."""
    # Torch creates millions of objects that live as long as the process. Garbage collection of them
    # takes one second during an export, and another second when the process ends.
    gc.set_threshold(100_000, 50, 50)
    code = main()
    if "triton" not in sys.modules:  # it would print what is not collected, forty lines
        gc.freeze()
    return code


def _main(arguments: list[str]) -> int:
    output = Output(
        as_json="--json" in arguments,
        verbose=not {"-v", "--verbose"}.isdisjoint(arguments),
    )
    try:
        returned = cli.main(arguments, PROGRAM, standalone_mode=False, obj=output)
        code = returned if isinstance(returned, int) else 0
    except SystemExit:
        raise
    except BrokenPipeError:  # `... | head`: the reader closed the pipe
        code = 1
    except BaseException as error:
        code = _report(error, output)
    try:
        sys.stdout.flush()
    except OSError:  # reported above; without this the interpreter would report it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    return code


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise an exception, as Ctrl-C does, so that incomplete files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _report(error: BaseException, output: Output) -> int:
    """Print the error in one line on stderr and, with --json, as a document; returns the code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    details: dict[str, Any] = {}
    code = 1
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        message, code = "interrupted", 130
    elif isinstance(error, click.ClickException):
        message, code = _click_message(error), error.exit_code
    elif isinstance(error, ReformerError):
        message, code = str(error) or type(error).__name__, error.exit_code
        if isinstance(error, ParityError) and error.report is not None:
            details["parity"] = error.report
        if isinstance(error, GenerationLimitError) and error.tokens is not None:
            details["tokens"] = error.tokens
    elif isinstance(error, MemoryError):
        message = "out of memory: use a shorter sequence or a smaller batch"
    elif isinstance(error, OSError):
        message = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    else:
        lines = str(error).strip().splitlines()
        message = f"unexpected {type(error).__name__}{f': {lines[0]}' if lines else ''}"
        message += " (a bug? -v shows the traceback)"
    if output.verbose:
        traceback.print_exception(error)
    click.echo(f"error: {one_line(message)}", err=True)
    if output.as_json:
        with suppress(OSError):  # the error may be that stdout cannot be written
            output.document({"error": one_line(message), "exit_code": code, **details})
    return code


def _click_message(error: click.ClickException) -> str:
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{message} See '{error.ctx.command_path} --help'."
    return message
