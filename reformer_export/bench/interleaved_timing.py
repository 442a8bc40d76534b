"""Interleaved timing: A B C, A B C, ... so that a slow phase of the machine affects all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Turn = Callable[[], float]
"""Does the work and returns its time in seconds."""

# In a shorter turn, the state in which another contender left the CPU's caches would matter.
_SHORTEST_TURN = 0.2

# The rounds that no contender skips: enough to see whether the times agree.
_ROUNDS_FOR_ALL = 2


@dataclass
class Turns:
    """Seconds of every contender by round, and the failures.

    `seconds[name][round]` is None for a round that the contender skipped. There are no entries from
    its failure on.
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
    """The time of `work` in seconds: of one run, or the median of several runs if a run is short.

    At most `most` runs are made.
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

    After its second round, a contender skips every round with which it would exceed `budget`
    seconds in total. A contender that raises is not run again: its exception is kept, and the
    others continue.
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
    """The median; None if there are no values."""
    return statistics.median(values) if values else None
