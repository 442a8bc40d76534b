"""The feed-forward with weights of 8 and 4 bits, on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reformer_ops.core import int4, int8
from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.weight_panels import panels
from reformer_ops.feed_forward_add.reference import feed_forward_add
from reformer_ops.int4_feed_forward_add.cases import make_case
from reformer_ops.int4_feed_forward_add.spec import INT4_FEED_FORWARD_ADD
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD

from .backends import QUANTISED_BACKENDS
from .isa_libraries import isa_libraries
from .onnx_models import make_model, make_session
from .tolerances import cases, exact_in, expected

Array = NDArray[Any]
QUANTISED = (INT8_FEED_FORWARD_ADD, INT4_FEED_FORWARD_ADD)


def run(op: OpSpec, backend: str, case: Case, dtype: str) -> Array:
    return QUANTISED_BACKENDS[backend].run(op, case, dtype)


def integers(op: OpSpec, case: Case, name: str) -> Array:
    """The integers of the weights `name`, "up" or "down", with their steps if there are any."""
    weight = case.inputs[f"{name}_weight"]
    if op == INT8_FEED_FORWARD_ADD:
        return int8.integers(weight)
    return int4.integers(weight, case.inputs[f"{name}_step"])


def calls() -> Iterator[Any]:
    for op in QUANTISED:
        for backend, kind in QUANTISED_BACKENDS.items():
            for dtype in kind.dtypes:
                for number, case in enumerate(cases(op)):
                    name = f"{op.name}-{backend}-{dtype}-{case.name}"
                    yield pytest.param(op, backend, dtype, number, id=name)


@pytest.mark.parametrize(("op", "backend", "dtype", "number"), list(calls()))
def test_backend_is_within_the_tolerances(
    op: OpSpec, backend: str, dtype: str, number: int
) -> None:
    """A number between two integers may be rounded to either: then its row differs by more."""
    case = exact_in(cases(op)[number], op, dtype)
    wanted = expected(op, case)
    found = run(op, backend, case, dtype)
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    update = np.abs(wanted - case.inputs["residual"]).max()
    errors = np.abs(found - wanted).max(axis=-1).ravel()
    assert errors.max() <= 0.03 * update
    if dtype == "float32":
        assert np.mean(errors <= 1e-5 * np.abs(wanted).max()) >= 0.9


@pytest.mark.parametrize("op", QUANTISED, ids=lambda op: op.name)
def test_it_is_near_the_feed_forward_with_these_weights(op: OpSpec) -> None:
    case = next(case for case in cases(op) if case.inputs["input"].shape[-1] > 512)
    plain = {
        name: array for name, array in case.inputs.items() if not name.endswith(("scale", "step"))
    }
    for name in ("up", "down"):
        matrix = integers(op, case, name) * case.inputs[f"{name}_scale"]
        plain[f"{name}_weight"] = panels(matrix)
    wanted = feed_forward_add(**plain, **case.attributes)
    difference = np.abs(expected(op, case) - wanted).max()
    assert 0 < difference < 0.05 * np.abs(wanted - case.inputs["residual"]).max()


@pytest.mark.parametrize("rows", [1, 2, 3, 700])
def test_results_are_those_of_8_bits_with_the_same_integers(rows: int) -> None:
    """Bit for bit, with any number of threads."""
    case = make_case(1, rows, 544, 1056)
    inputs = {n: a for n, a in case.inputs.items() if not n.endswith("step")}
    for name in ("up", "down"):
        inputs[f"{name}_weight"] = int8.int8_panels(integers(INT4_FEED_FORWARD_ADD, case, name))
    for isa, library in isa_libraries(int8=True).items():
        backend = f"native-onnxruntime-{isa}"
        other = Case(case.name, inputs, case.attributes)
        wanted = run(INT8_FEED_FORWARD_ADD, backend, other, "float32")
        model = make_model(INT4_FEED_FORWARD_ADD, dict(case.attributes), "float32", "node")
        for threads in (1, 3):
            session = make_session(model, library=library, threads=threads)
            np.testing.assert_array_equal(session.run(None, case.inputs)[0], wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up_weight": np.zeros((4, 3, 16, 4), np.uint8)}, "32 lines for hidden, with a step for"),
        ({"down_step": np.zeros((2, 1, 16), np.int8)}, "8 times 4 bytes and 1 steps"),
        ({"up_weight": np.zeros((3, 4, 16, 4), np.uint8)}, "up_panels"),
        ({"down_scale": np.zeros(16, np.float32)}, "int4_feed_forward_add takes"),
    ],
)
def test_what_is_refused(change: dict[str, Array], message: str) -> None:
    case = make_case(1, 2, 32, 64)
    wrong = Case("", {**case.inputs, **change}, case.attributes)
    for backend in QUANTISED_BACKENDS:
        if backend.startswith("onnx"):
            continue
        with pytest.raises(Exception, match=message):
            run(INT4_FEED_FORWARD_ADD, backend, wrong, "float32")
