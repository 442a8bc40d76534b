"""Finds `reformer-run`, the program of the C++ runtime, and the runtimes it was built with."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reformer_export.errors import RuntimeUnavailableError

PROGRAM = "reformer-run"
VARIABLE = "REFORMER_RUN"

_VERSION = re.compile(rf"{PROGRAM} (\S+) \((.*)\)")
_REMEDY = (
    "make it with `make cpp` in a checkout of reformer-export (`make cpp-torch`: with TorchScript "
    f"too), or name it in {VARIABLE}"
)
_PATIENCE = 60.0  # seconds for --version; loading libtorch from a slow disk takes time


@dataclass(frozen=True)
class Program:
    """A working `reformer-run`: its version, and the runtimes it was built with."""

    path: Path
    version: str
    runtimes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{PROGRAM} {self.version}"


def built_folder(name: str) -> Path:
    """The folder into which a checkout installs the C++ runtime for the platform `name`, such as
    "linux-x86_64"."""
    return Path(__file__).resolve().parents[2] / "build" / "runtime" / name


def find_program(runtime: str | None = None) -> Program:
    """The first working program that has `runtime`; any working program if `runtime` is None.

    If REFORMER_RUN is set, only that program is considered. Otherwise the programs that this
    checkout has built are tried, then the one on PATH.

    Raises:
        RuntimeUnavailableError: there is none; the message says where it was searched, and what was
            wrong with the programs that were found.
    """
    given = os.environ.get(VARIABLE)
    reasons = []
    for path in [Path(given)] if given else _places():
        if not path.is_file():
            reasons.append(f"there is none at {path}")
            continue
        try:
            program = _ask(path)
        except RuntimeUnavailableError as error:
            reasons.append(str(error))
            continue
        if runtime is None or runtime in program.runtimes:
            return program
        reasons.append(f"{path} was built for {' and '.join(program.runtimes)} only")
    wanted = f"{PROGRAM} that runs {runtime}" if runtime else PROGRAM
    remedy = f"name another in {VARIABLE}, or unset it" if given else _REMEDY
    raise RuntimeUnavailableError(f"no {wanted} is here: {'; '.join(reasons)}: {remedy}")


def _places() -> Iterator[Path]:
    here = f"{platform.system().lower()}-{platform.machine()}"
    for name in (here, f"{here}-torch"):
        yield built_folder(name) / "bin" / PROGRAM
    if found := shutil.which(PROGRAM):
        yield Path(found)


def _ask(path: Path) -> Program:
    """The version and runtimes that a program reports."""
    try:
        done = subprocess.run(
            [str(path), "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else "it gives no answer"
        raise RuntimeUnavailableError(f"{path} does not start ({reason})") from error
    match = _VERSION.fullmatch(done.stdout.strip())
    if done.returncode != 0 or match is None:
        reason = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise RuntimeUnavailableError(f"{path} is no {PROGRAM} of this release ({reason[:200]})")
    return Program(path, match[1], tuple(match[2].split(", ")))
