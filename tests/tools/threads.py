"""Threads that share a runner."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from reformer_export.runtimes import Runner

from .model_fixtures import Feeds


def assert_threads_share(runner: Runner, cases: Sequence[Feeds]) -> None:
    """A thread for each case runs it many times, all at once; each gets its own logits, bit by bit.

    Give cases of different lengths.
    """
    expected = [runner.run(inputs)["logits"] for inputs in cases]
    wrong: list[str] = []
    start = threading.Barrier(len(cases))

    def work(inputs: Feeds, wanted: np.ndarray) -> None:
        start.wait()
        for _ in range(25):
            try:
                if not np.array_equal(runner.run(inputs)["logits"], wanted):
                    wrong.append("other numbers")
            except Exception as error:
                wrong.append(repr(error))

    threads = [
        threading.Thread(target=work, args=case) for case in zip(cases, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
