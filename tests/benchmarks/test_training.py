"""`make bench-train`, with sizes small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.training.measure import Scope, TrainingReport, bench_training
from benchmarks.training.report import promises, tables, write_report
from benchmarks.training.steps import FULL, HF, LABELS, OURS, STORING, Step, config_for

TINY = Scope(
    depths=(2, 20),
    depth_length=512,
    lengths=(256, 512),
    timed=(256,),
    repeat=2,
    longest=((FULL, 256),),
)


@pytest.fixture(scope="module")
def report() -> TrainingReport:
    return bench_training(TINY, threads=1)


@pytest.mark.slow
def test_who_is_measured_where(report: TrainingReport) -> None:
    assert not report.notes
    assert [(m.who, m.layers) for m in report.depth] == [
        (who, layers) for layers in (2, 20) for who in (OURS, STORING, HF)
    ]
    assert [(m.who, m.length) for m in report.length if m.who in (OURS, FULL)] == [
        (OURS, 256),
        (FULL, 256),
        (OURS, 512),
    ]
    assert {(t.who, t.dropout) for t in report.time} == {(w, d) for w in LABELS for d in (0, 0.05)}
    assert all(t.ratio == 1 for t in report.time if t.who == OURS)
    assert all(len(t.seconds) == 2 for t in report.time)


@pytest.mark.slow
def test_memory_is_what_is_said_of_it(report: TrainingReport) -> None:
    found = {(m.who, m.layers): m.activation_bytes for m in report.depth}
    assert found[OURS, 20] < 1.15 * found[OURS, 2]
    assert found[STORING, 20] > 2.5 * found[STORING, 2]
    again = Step(OURS, config_for(512, layers=20))
    again.run()
    assert abs(again.activation_bytes() / found[OURS, 20] - 1) < 0.01


def test_all_take_the_same_step() -> None:
    config = config_for(256)
    losses = {who: Step(who, config).run() for who in (OURS, STORING, HF)}
    assert losses[OURS] == losses[STORING]
    assert abs(losses[HF] - losses[OURS]) < 0.2, "new models predict nothing in particular"


@pytest.mark.slow
def test_what_is_written(report: TrainingReport, tmp_path: Path) -> None:
    write_report(tmp_path, report)
    document = json.loads((tmp_path / "results.json").read_text())
    assert len(document["depth"]) == 6
    text = (tmp_path / "table.md").read_text()
    assert all(title in text for title in tables(report))
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    assert [bar.what for bar in promises(report)] == [
        "memory, deepest to shallowest",
        "the same where activations are stored",
    ]
