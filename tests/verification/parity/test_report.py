"""The outcome of a comparison, as a verdict, as a sentence and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reformer_export.verification.parity import ParityReport, ParityRow, Tolerance


def row(**changes: Any) -> ParityRow:
    fields: dict[str, Any] = {
        "reference": "torch",
        "length": 5,
        "batch": 1,
        "masked": False,
        "seed": 0,
        "decisions": 100,
        "flips": 0,
        "flip_margin": 0.0,
        "fixed_error": 1e-7,
        "free_error": 1e-7,
        "bound": 1e-4,
        "misses": (),
    }
    return ParityRow(**fields | changes)


def report(*rows: ParityRow, notes: tuple[str, ...] = ()) -> ParityReport:
    references = {"torch": "torch 2", "transformers": "transformers 5"}
    return ParityReport("onnxruntime 1", references, Tolerance(), rows, notes)


def test_a_pass() -> None:
    found = report(row(), row(reference="transformers", flips=1, flip_margin=1e-6))
    assert found.passed
    assert found.first_miss == ""
    assert found.summary() == (
        "equal to torch and transformers on 2 comparisons: largest difference 1.0e-07 of the "
        "output's scale, 1 of 200 hash decisions flipped"
    )


def test_one_miss_is_a_miss() -> None:
    found = report(row(), row(length=9, batch=3, misses=("outputs differ", "and more")), row())
    assert not found.passed
    assert found.summary() == "parity miss: outputs differ (against torch, length 9, batch 3)"


def test_nothing_compared_is_no_pass() -> None:
    assert not report().passed
    assert report().summary() == "parity miss: nothing was compared"
    assert json.dumps(report().to_json(), allow_nan=False)


floats = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(
        st.builds(
            row,
            flip_margin=floats,
            fixed_error=floats,
            free_error=floats,
            bound=floats,
            misses=st.lists(st.text(max_size=9), max_size=2).map(tuple),
        ),
        max_size=3,
    ),
    st.lists(st.text(max_size=9), max_size=2).map(tuple),
)
def test_a_report_survives_json(rows: list[ParityRow], notes: tuple[str, ...]) -> None:
    """This holds for all numbers, including infinite ones, which JSON does not have."""
    found = report(*rows, notes=notes)
    document = found.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["passed"] is found.passed
    assert document["summary"] == found.summary()
    assert document["notes"] == list(notes)
    assert len(document["rows"]) == len(rows)
    for entry, original in zip(document["rows"], rows, strict=True):
        assert entry["passed"] is original.passed
        assert entry["misses"] == list(original.misses)
        assert set(entry) == {*vars(original), "passed"}


@pytest.mark.parametrize("odd", [float("inf"), float("nan")])
def test_an_error_that_is_no_number_is_null(odd: float) -> None:
    document = report(row(fixed_error=odd, misses=("x",))).to_json()
    assert document["rows"][0]["fixed_error"] is None
    assert document["worst_error"] is None
