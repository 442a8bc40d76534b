"""`make bench`, with sizes small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.suite import Plan, Scope, run_suite

PNG = b"\x89PNG\r\n"


@pytest.mark.slow
def test_the_suite_from_checkpoint_to_table(tmp_path: Path) -> None:
    reported: list[str] = []
    plans = (
        Plan("c&p", "cp", (65,), ("hf",), 1),
        Plan("too long", "cp", (10**9,), (), 1),
    )
    scope = Scope(plans, hf_lengths=(128,), kernel_length=128, sdpa_lengths=(128,))
    report = run_suite(tmp_path, scope=scope, threads=1, progress=reported.append)

    assert report.models.keys() == {"c&p"}
    assert not report.models["c&p"].failed
    assert report.ops is not None
    assert not report.ops.failed
    assert report.failed, "one of the plans cannot be met"
    assert any("too long: --lengths 1000000000" in note for note in report.notes())
    assert "c&p, 65 tokens: opening hf" in reported

    document = json.loads((tmp_path / "results.json").read_text())
    assert document["models"]["c&p"]["results"][0]["status"] == "ok"
    assert len(document["bars"]) == len(report.bars)
    table = (tmp_path / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(report.bars)
    assert table[0] == "| what | at | before | measured | bar |  |"
    for name in ("cp.png", "enwik8.png", "ops.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
