"""A part for tests: each case does what its name says."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from .record import Place, Record, Skip

TABLE = "Made up"


def cases() -> list[str]:
    return ["right: one", "right: two", "skipped: one", "wrong: one", "crashes: one", "hangs: one"]


def run(names: Sequence[str], record: Record, place: Place) -> None:
    record.fact("ran on", place.device)
    for name in names:
        with record.case(name) as figures:
            figures["error"] = len(name) / 1000
            record.cell(TABLE, "a row", **{name: 12.345})
            if "skipped" in name:
                raise Skip("it is switched off")
            if "wrong" in name:
                raise ValueError("seven is not eight")
            if "crashes" in name:
                print("about to end", file=sys.stderr, flush=True)
                os.abort()
            if "hangs" in name:
                time.sleep(600)


def conclude(tables: object) -> list[str]:
    return [f"measured: {tables}"] if tables else []
