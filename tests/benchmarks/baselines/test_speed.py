"""`make bench-attention`, with sizes small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.baselines.choices import LINFORMER, LONGFORMER, Skeleton
from benchmarks.baselines.duplication import Training
from benchmarks.baselines.speed import HEADER, Measured, measure_speed, with_expectations
from benchmarks.baselines.suite import Scope, run_suite
from reformer_export.bench.report import OK, REFUSED, Result

PNG = b"\x89PNG\r\n"


def _result(length: int, seconds: float | None) -> Result:
    if seconds is None:
        return Result("full", length, REFUSED, 1, "too much memory")
    return Result("full", length, OK, 1, seconds=(seconds,))


def test_what_is_refused_is_extrapolated_and_called_so() -> None:
    results = [_result(1000, 0.1), _result(2000, 0.4), _result(8000, None)]
    *measured, refused = with_expectations(results, 2)
    assert [one.expected for one in measured] == [None, None]
    assert refused.expected == pytest.approx(6.4), "four times the length, sixteen times the time"
    assert refused.row()[-1] == "refused: too much memory; 6.40 s by extrapolation"
    assert len(refused.row()) == len(HEADER)
    assert refused.to_json()["extrapolated_seconds"] == refused.expected


def test_nothing_is_extrapolated_from_nothing() -> None:
    *_, refused = with_expectations([_result(8000, None), _result(9000, None)], 1)
    assert refused.expected is None
    assert Measured(_result(8000, None)).row()[-1] == "refused: too much memory"


@pytest.mark.slow
def test_baselines_are_measured(tmp_path: Path) -> None:
    small = Skeleton(
        max_length=256, axial_shape=(16, 16), keys=16, rounds=1, layers=1, hidden=32, head_dim=8
    )
    report = measure_speed(
        tmp_path,
        lengths=(64, 256),
        threads=1,
        repeat=1,
        skeleton=small,
        lineup=((LONGFORMER, {"ours": "Longformer"}), (LINFORMER, {"ours": "Linformer"})),
    )
    rows = list(report.rows())
    assert [row[:2] for row in rows] == [
        ("64", "Longformer"), ("64", "Linformer"), ("256", "Longformer"), ("256", "Linformer"),
    ]  # fmt: skip
    assert all(result.status == OK for result in report.results)


@pytest.mark.slow
def test_the_suite_writes_tables_plots_and_json(tmp_path: Path) -> None:
    reported: list[str] = []
    training = Training(2, batch=2, every=1)
    scope = Scope((64,), 1, training, ((LINFORMER, 1, False),))
    report = run_suite(
        tmp_path, scope=scope, threads=1, parts=("learning",), progress=reported.append
    )
    assert not report.failed
    assert reported[-1].startswith("Linformer, fill in, step 2 of 2")
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["speed"] is None
    assert [one["name"] for one in document["learned"]] == ["Linformer, fill in"]
    assert (tmp_path / "learning.png").read_bytes().startswith(PNG)
    assert "| Linformer, fill in | fill in |" in (tmp_path / "table.md").read_text()
