"""The request to a process that runs cases, and its events: one line of JSON for each event."""

from __future__ import annotations

import contextlib
import json
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

PASSED, FAILED, SKIPPED, NOT_RUN = "passed", "failed", "skipped", "not run"


class Skip(Exception):
    """Raised by a case that cannot be run here; its message is the reason."""


@dataclass(frozen=True)
class Place:
    """Where cases run.

    Attributes:
        device: "cuda"; "cpu" in a rehearsal.
        scratch: a folder that the processes of one check share.
        capability: compute capability of the GPU, 90 for 9.0; 80 in a rehearsal.
    """

    device: str
    scratch: Path
    capability: int

    @property
    def rehearsal(self) -> bool:
        """True if cases run on the CPU, which only shows that the check itself works."""
        return self.device == "cpu"


@dataclass(frozen=True)
class Request:
    """The task of a process: the cases of a part to run, and where to write events."""

    module: str
    needs: tuple[str, ...]
    cases: tuple[str, ...]
    events: str
    device: str
    scratch: str
    capability: int

    def save(self, path: Path) -> None:
        """Write the request to a file, for `read`."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read a request that `save` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**raw, "needs": tuple(raw["needs"]), "cases": tuple(raw["cases"])})

    @property
    def place(self) -> Place:
        """Where the cases run."""
        return Place(self.device, Path(self.scratch), self.capability)


class Record:
    """Writes events as they happen, so that a crash loses no earlier event."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, kind: str, **fields: Any) -> None:
        """Write one event. A float that is not finite becomes null."""
        self._out.write(json.dumps({"kind": kind, **_plain(fields)}) + "\n")
        self._out.flush()

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[dict[str, Any]]:
        """Run a case, which passes unless it raises. The page shows the figures in the dict."""
        figures: dict[str, Any] = {}
        self.write("start", case=name)
        start = time.perf_counter()
        status, why = PASSED, ""
        try:
            yield figures
        except Skip as reason:
            status, why = SKIPPED, str(reason)
        except Exception as error:
            status, why = FAILED, reason_of(error)
            traceback.print_exc()
        seconds = time.perf_counter() - start
        self.write("case", case=name, status=status, why=why, seconds=seconds, figures=figures)

    def cell(self, table: str, row: str, **columns: Any) -> None:
        """Write figures for a row of a table. Several processes may add figures to one row."""
        self.write("cell", table=table, row=row, columns=columns)

    def fact(self, name: str, value: str) -> None:
        """Write a fact about this machine or the software on it."""
        self.write("fact", name=name, value=value)


def reason_of(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:600] if text else type(error).__name__


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
