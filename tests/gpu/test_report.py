"""The contents of the page and of the document for given events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .parts import Part
from .record import FAILED, PASSED, SKIPPED
from .report import JSON, PAGE, Case, PartResult, Report, number, table
from .targets import BODIES, GRAPH, REPLAYED, verdicts


def result(*names: str) -> PartResult:
    part = Part("some", "this and that", "no.module", (), processes=1, limit=1)
    return PartResult(part, {name: Case(name) for name in names})


def case(name: str, status: str = PASSED, why: str = "", **figures: Any) -> dict[str, Any]:
    event = {"kind": "case", "case": name, "status": status, "why": why}
    return {**event, "seconds": 0.5, "figures": figures}


def test_a_part_is_as_its_cases_are() -> None:
    for statuses, state in {
        (): "not run",
        (PASSED, PASSED): "right",
        (PASSED,): "in part",
        (SKIPPED, SKIPPED): "skipped",
        (PASSED, FAILED): "wrong",
    }.items():
        found = result("a", "b")
        report = Report({}, [found])
        for name, status in zip("ab", statuses, strict=False):
            report.take(found, case(name, status))
        assert found.state == state
        assert report.wrong == (state == "wrong")


def test_trouble_of_a_process_is_wrong_though_no_case_is() -> None:
    found = result("a")
    report = Report({}, [found])
    report.take(found, case("a"))
    found.trouble.append("the process | ended early")
    assert found.state == "wrong"
    assert report.wrong
    assert "the process \\| ended early" in report.page()


def test_events_come_together_in_the_files(tmp_path: Path) -> None:
    found = result("g: a", "g: b", "h: c")
    report = Report({"GPU": "made up", "onnx": "1"}, [found], notes=["a note"])
    report.take(found, case("g: a", error=1e-6, flips=3))
    report.take(found, case("g: b", FAILED, "too far off", error=0.25))
    for column in ("eager", "replayed"):
        cell = {"kind": "cell", "table": "Times", "row": "small", "columns": {column: 1234.5}}
        report.take(found, cell)
    report.take(found, {"kind": "fact", "name": "onnx", "value": "2"})
    report.write(tmp_path)
    page = (tmp_path / PAGE).read_text()
    assert "**Not finished" in page
    assert "| onnx | 2 |" in page  # the version that ran replaces the installed one
    assert "- a note" in page
    assert "| g | 2 | 0.25 | 3 |" in page
    assert "- `g: b`: too far off" in page
    assert "## Times\n\n|  | eager | replayed |\n| --- | --- | --- |\n" in page
    assert "| small | 1,234 | 1,234 |" in page
    document = json.loads((tmp_path / JSON).read_text())
    assert document["machine"] == {"GPU": "made up", "onnx": "2"}
    assert document["wrong"]
    assert not document["finished"]
    assert document["parts"][0]["counts"] == {"passed": 1, "failed": 1, "not run": 1}
    report.finished = True
    assert "Not finished" not in report.page()
    assert sorted(path.name for path in tmp_path.iterdir()) == [JSON, PAGE]


def test_a_long_list_of_failures_is_cut_and_counted() -> None:
    names = [f"g: {index}" for index in range(50)]
    found = result(*names)
    report = Report({}, [found])
    for name in names:
        report.take(found, case(name, FAILED, "no"))
    assert report.page().count("- `g: ") == 40
    assert "- and 10 more" in report.page()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (12345, "12,345"),
        (1234.5, "1,234"),
        (12.345, "12.3"),
        (0.0123, "0.0123"),
        (0.00123, "1.2e-03"),
        ("fails", "fails"),
    ],
)
def test_figures_have_three_digits_or_so(value: Any, shown: str) -> None:
    assert number(value) == shown


def test_cells_cannot_break_a_table() -> None:
    assert table(("a|b",), [("c\nd",)]) == "| a\\|b |\n| --- |\n| c d |\n"


def test_targets_are_met_or_missed_where_they_were_measured() -> None:
    rows = {
        "c&p fp16, 64 tokens": {GRAPH: 0.5, REPLAYED: 0.4},
        "c&p fp16, 65,536 tokens": {GRAPH: 5.0, REPLAYED: 4.9, BODIES: 1600.0},
        "c&p fp16, 1 tokens": {},
    }
    found = list(verdicts(rows))
    assert found == [
        f"met: c&p fp16, 64 tokens, {GRAPH}: 0.50 ms, at most 1",
        f"MISSED: c&p fp16, 65,536 tokens, {GRAPH}: 5.00 ms, at most 4.5",
        f"MISSED: c&p fp16, 64 tokens, {GRAPH} takes 1.25 times as long as {REPLAYED}, at most 1.2",
        f"met: c&p fp16, 65,536 tokens, {GRAPH} takes 1.02 times as long as {REPLAYED},"
        " at most 1.2",
        f"met: c&p fp16, 65,536 tokens, {BODIES} takes 320.00 times as long as {GRAPH},"
        " at least 50",
    ]
