"""`make bench-weights`: every number of a row is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.weights.measure import BIBLE, HEADER, measure


@pytest.mark.slow
def test_a_row(tmp_path: Path) -> None:
    told: list[str] = []
    (row,) = measure(tmp_path, {BIBLE: (16, 64)}, threads=1, progress=told.append)
    before, after = row.bytes
    assert 0.2 < after / before < 0.35
    assert row.quality["samples"] == "held_out.txt"
    assert abs(row.quality["loss"]) < 0.005
    assert set(row.speed) == {16, 64}
    assert all(ratio > 0.2 for ratio in (*row.speed.values(), row.step, *row.peak.values()))
    assert len(row.cells()) == len(HEADER)
    assert told == [f"{BIBLE}: exporting", f"{BIBLE}: timing"]
