"""`make bench-weights`: every number of a row is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.weights.measure import BIBLE, HEADER, measure

BOUNDS = {"int8": (0.35, 0.005), "int4": (0.25, 0.03), "fp16": (0.52, 0.0005)}
"""The size relative to fp32, and the loss of bits."""


@pytest.mark.slow
def test_rows(tmp_path: Path) -> None:
    reported: list[str] = []
    rows = measure(tmp_path, {BIBLE: (16, 64)}, threads=1, progress=reported.append)
    assert [row.weights for row in rows] == list(BOUNDS)
    for row in rows:
        before, after = row.bytes
        size, loss = BOUNDS[row.weights]
        assert size / 2 < after / before < size
        assert row.quality["samples"] == "held_out.txt"
        assert abs(row.quality["loss"]) < loss
        assert set(row.speed) == {16, 64}
        assert all(ratio > 0.2 for ratio in (*row.speed.values(), row.step, *row.peak.values()))
        assert len(row.cells()) == len(HEADER)
    assert reported[0] == f"{BIBLE}: exporting in fp32"
    assert reported[-1] == f"{BIBLE}: timing fp16"
