"""The child process: runs one contender on request and answers in lines of JSON.

    python -m reformer_export.bench.worker

The first line on stdin is a `Request`. Every further line requests a turn. Answers go to the
original stdout; everything else that is printed goes to stderr. The process ends when stdin ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, TextIO

from reformer_export.bench.contenders import Request, open_contender
from reformer_export.bench.interleaved_timing import timed
from reformer_export.host import memory


def serve(orders: TextIO, answers: TextIO) -> None:
    """Open the contender and run it once for each request; the first failure ends the process."""

    def answer(**fields: Any) -> None:
        answers.write(f"{json.dumps(fields)}\n")
        answers.flush()

    try:
        request = Request(**json.loads(orders.readline()))
        with memory.limited_growth(request.memory):
            start = time.perf_counter()
            opened = open_contender(request)
            answer(
                seconds=time.perf_counter() - start,
                description=opened.description,
                notes=opened.notes,
                native=opened.native,
            )
            figures: dict[str, float] = {}
            for _ in orders:
                seconds = timed(lambda: figures.update(opened.work()))
                answer(seconds=seconds, **figures)
    except Exception as error:  # the parent reports it and continues
        said = " ".join(str(error).split()) or type(error).__name__
        answer(error=said, out_of_memory=memory.ran_out(error))


def main() -> None:
    """Use the original stdout for answers; redirect all other output to stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
