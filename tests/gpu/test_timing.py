"""How often work is run to be timed, and what is concluded from its times."""

from __future__ import annotations

import time

import pytest

from . import speed_attention, timing
from .speed_attention import FULL, LSH, replayed, row_name


def test_quick_work_is_run_often_and_slow_work_seldom() -> None:
    quick: list[None] = []
    ms = timing.by_clock(lambda: quick.append(None), "cpu", seconds=5)
    assert len(quick) == timing.WARM_UP + timing.MOST
    assert 0 <= ms < 100
    slow: list[None] = []

    def work() -> None:
        slow.append(None)
        time.sleep(0.01)

    ms = timing.by_clock(work, "cpu", seconds=0.001)
    assert len(slow) == 2  # once to warm up, once timed
    assert ms >= 10
    slow.clear()
    timing.by_clock(work, "cpu", seconds=0.02, least=3, warm_up=1)
    assert len(slow) == 1 + 3


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ({2048: 0.5, 4096: 2, 8192: 4}, "from 4,096 tokens on; 4 times as fast at 8,192"),
        # Faster at one length but not at a later one is not a crossover.
        ({2048: 2, 4096: 0.5, 8192: 1.5}, "from 8,192 tokens on; 1.5 times as fast at 8,192"),
        ({2048: 0.2, 4096: 0.5}, "at no length measured; 0.5 times as fast at 4,096"),
    ],
)
def test_the_crossover_is_where_ours_is_faster_from_there_on(
    ratios: dict[int, float], said: str
) -> None:
    size = "2 x 64"
    rows = {
        row_name(size, length): {replayed(LSH): 3.0, replayed(FULL): 3.0 * ratio}
        for length, ratio in ratios.items()
    }
    found = list(speed_attention.crossovers(rows))
    assert found == [f"{size}: LSH attention is faster than causal SDPA {said}"]


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert list(speed_attention.crossovers({row_name("2 x 64", 2048): {LSH: 1.0}})) == []
