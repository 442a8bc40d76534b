"""Interleaved timing: the order of the contenders, and the results from their seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from reformer_export.bench.interleaved_timing import median, take_turns, timed


def contender(log: list[str], name: str, *seconds: float) -> Callable[[], float]:
    """A function that returns the values of `seconds` one by one, then raises RuntimeError."""
    left = iter(seconds)

    def turn() -> float:
        log.append(name)
        try:
            return next(left)
        except StopIteration:
            raise RuntimeError(f"{name} is spent") from None

    return turn


def test_turns_alternate() -> None:
    log: list[str] = []
    turns = {"a": contender(log, "a", 1, 2, 3), "b": contender(log, "b", 2, 8, 9)}
    done = take_turns(turns, repeat=3, budget=100)
    assert log == ["a", "b"] * 3
    assert done.of("b") == [2, 8, 9]
    assert done.ratios("b", "a") == [2, 4, 3]
    assert not done.failures


def test_one_that_breaks_does_not_stop_the_others() -> None:
    log: list[str] = []
    turns = {"a": contender(log, "a", 1), "b": contender(log, "b", 2, 2, 2)}
    done = take_turns(turns, repeat=3, budget=100)
    assert log == ["a", "b", "a", "b", "b"]
    assert done.of("a") == [1]
    assert str(done.failures["a"]) == "a is spent"
    assert done.of("b") == [2, 2, 2]
    assert done.ratios("b", "a") == [2]


def test_a_slow_one_runs_twice_and_is_paired_with_what_ran_beside_it() -> None:
    log: list[str] = []
    turns = {"slow": contender(log, "slow", 40, 40), "fast": contender(log, "fast", 1, 2, 4)}
    done = take_turns(turns, repeat=3, budget=60)
    assert log == ["slow", "fast", "slow", "fast", "fast"]
    assert done.seconds["slow"] == [40, 40, None]
    assert done.ratios("slow", "fast") == [40, 20]


def test_progress_names_who_is_next() -> None:
    reported: list[str] = []
    take_turns({"a": contender([], "a", 1, 1)}, repeat=2, budget=9, progress=reported.append)
    assert reported == ["round 1 of 2: a", "round 2 of 2: a"]


@pytest.mark.parametrize(("seconds", "alone"), [(0.01, False), (0.25, True)])
def test_short_work_is_repeated_and_long_work_is_not(seconds: float, alone: bool) -> None:
    runs = []

    def work() -> None:
        runs.append(seconds)
        time.sleep(seconds)

    assert timed(work) >= seconds
    assert (len(runs) == 1) == alone


def test_median() -> None:
    assert median([]) is None
    assert median([3, 1, 2]) == 2
