"""Interleaved timing: A B C, A B C, ... so that a slow minute of the machine affects all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Turn = Callable[[], float]
"""Does the work and returns the seconds it takes."""

# A shorter turn would measure the caches that another contender left behind.
_SHORTEST_TURN = 0.2

# Enough rounds to see if they agree.
_ROUNDS_FOR_ALL = 2


@dataclass
class Turns:
    """Seconds of every contender by round, and the failures.

    `seconds[name][round]` is None for a round that it skipped, and missing after a failure.
    """

    seconds: dict[str, list[float | None]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)

    def of(self, name: str) -> list[float]:
        """The seconds of one contender."""
        return [seconds for seconds in self.seconds.get(name, []) if seconds is not None]

    def ratios(self, name: str, to: str) -> list[float]:
        """Seconds of `name` over seconds of `to`, for every round in which both ran."""
        pairs = zip(self.seconds.get(name, []), self.seconds.get(to, []), strict=False)
        return [a / b for a, b in pairs if a is not None and b is not None]


def timed(work: Callable[[], object], *, most: float = math.inf) -> float:
    """The seconds `work` takes: of one run, or the median of several where it is short.

    It is run at most `most` times.
    """
    seconds: list[float] = []
    while sum(seconds) < _SHORTEST_TURN and len(seconds) < most:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def take_turns(
    turns: Mapping[str, Turn],
    *,
    repeat: int,
    budget: float,
    progress: Callable[[str], None] | None = None,
) -> Turns:
    """Run every contender once in each of `repeat` rounds, in the same order.

    A contender that has used up `budget` seconds skips the rounds after its second. One that raises
    is not run again: its exception is kept, and the others continue.
    """
    result = Turns({name: [] for name in turns})
    for number in range(repeat):
        for name, turn in turns.items():
            if name in result.failures:
                continue
            past = result.of(name)
            if number >= _ROUNDS_FOR_ALL and sum(past) + past[-1] > budget:
                result.seconds[name].append(None)
                continue
            if progress is not None:
                progress(f"round {number + 1} of {repeat}: {name}")
            try:
                result.seconds[name].append(turn())
            except Exception as error:  # the other contenders are measured in any case
                result.failures[name] = error
    return result


def median(values: list[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None
