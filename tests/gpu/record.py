"""What a process that runs cases is told, and what it tells: a line of JSON for each event."""

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
    """Raised by a case that cannot be run here; says why."""


@dataclass(frozen=True)
class Place:
    """Where cases run.

    Attributes:
        device: "cuda"; "cpu" in a rehearsal.
        scratch: a folder that the processes of one check share.
        capability: of the GPU, 90 for 9.0; 80 in a rehearsal.
    """

    device: str
    scratch: Path
    capability: int

    @property
    def rehearsal(self) -> bool:
        """There is no GPU: this only shows that the check itself works."""
        return self.device == "cpu"


@dataclass(frozen=True)
class Request:
    """What a process is to run: cases of a part, and where to write."""

    module: str
    needs: tuple[str, ...]
    cases: tuple[str, ...]
    events: str
    device: str
    scratch: str
    capability: int

    def save(self, path: Path) -> None:
        """Write it for `read`."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Request:
        """What `save` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**raw, "needs": tuple(raw["needs"]), "cases": tuple(raw["cases"])})

    @property
    def place(self) -> Place:
        """Where the cases run."""
        return Place(self.device, Path(self.scratch), self.capability)


class Record:
    """Writes events as they happen, so that a crash loses nothing of what was before."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, kind: str, **fields: Any) -> None:
        """One event. What is no finite number becomes null."""
        self._out.write(json.dumps({"kind": kind, **_plain(fields)}) + "\n")
        self._out.flush()

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[dict[str, Any]]:
        """Run a case: right unless it raises. Figures put into the dict are shown on the page."""
        figures: dict[str, Any] = {}
        self.write("start", case=name)
        start = time.perf_counter()
        status, why = PASSED, ""
        try:
            yield figures
        except Skip as reason:
            status, why = SKIPPED, str(reason)
        except Exception as error:
            status, why = FAILED, told(error)
            traceback.print_exc()
        seconds = time.perf_counter() - start
        self.write("case", case=name, status=status, why=why, seconds=seconds, figures=figures)

    def cell(self, table: str, row: str, **columns: Any) -> None:
        """Figures for a row of a table. Those of several processes come together in one row."""
        self.write("cell", table=table, row=row, columns=columns)

    def fact(self, name: str, value: str) -> None:
        """Something about this machine or what runs on it."""
        self.write("fact", name=name, value=value)


def told(error: BaseException) -> str:
    """An error in a line."""
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
