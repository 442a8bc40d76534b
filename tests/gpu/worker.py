"""Runs cases of a part, in a separate process: `python3 -m tests.gpu.worker REQUEST`."""

from __future__ import annotations

import faulthandler
import importlib
import sys
from pathlib import Path

from .machine import loaded_versions
from .needs import first_missing
from .record import Record, Request


def main(path: str) -> int:
    """Run the request at `path`; the events hold the results."""
    faulthandler.enable()
    request = Request.read(Path(path))
    with open(request.events, "a", encoding="utf-8") as out:
        record = Record(out)
        if reason := first_missing(request.needs, rehearsal=request.place.rehearsal):
            record.write("skip", why=reason)
            return 0
        try:
            importlib.import_module(request.module).run(request.cases, record, request.place)
        finally:
            # The versions in this process, because the check's own process may have others.
            for package, version in loaded_versions().items():
                record.fact(package, version)
        record.write("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
