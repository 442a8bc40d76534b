"""The feed-forward with weights of 8 bits: its body in ONNX Runtime, and its CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reformer_ops.core.int8 import integers
from reformer_ops.core.weight_panels import panels
from reformer_ops.feed_forward_add.reference import feed_forward_add
from reformer_ops.int8_feed_forward_add.reference import int8_feed_forward_add
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD

from .backends import LINEAR_BACKENDS
from .tolerances import cases, exact_in

Array = NDArray[Any]
CASES = cases(INT8_FEED_FORWARD_ADD)


def calls() -> Iterator[Any]:
    for backend, kind in LINEAR_BACKENDS.items():
        for dtype in kind.dtypes:
            for number, case in enumerate(CASES):
                yield pytest.param(backend, dtype, number, id=f"{backend}-{dtype}-{case.name}")


@pytest.mark.parametrize(("backend", "dtype", "number"), list(calls()))
def test_backend_is_within_the_tolerances(backend: str, dtype: str, number: int) -> None:
    """A number between two integers may be rounded to either: then its row differs by more."""
    case = exact_in(CASES[number], INT8_FEED_FORWARD_ADD, dtype)
    wanted = int8_feed_forward_add(**case.inputs, **case.attributes)
    found = LINEAR_BACKENDS[backend].run(INT8_FEED_FORWARD_ADD, case, dtype)
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    update = np.abs(wanted - case.inputs["residual"]).max()
    errors = np.abs(found - wanted).max(axis=-1).ravel()
    assert errors.max() <= 0.03 * update
    if dtype == "float32":
        assert np.mean(errors <= 1e-5 * np.abs(wanted).max()) >= 0.9


def test_it_is_near_the_feed_forward_with_all_bits() -> None:
    case = next(case for case in CASES if case.inputs["input"].shape[-1] == 528)
    plain = {name: array for name, array in case.inputs.items() if not name.endswith("scale")}
    for name in ("up", "down"):
        matrix = integers(case.inputs[f"{name}_weight"]) * case.inputs[f"{name}_scale"]
        plain[f"{name}_weight"] = panels(matrix)
    wanted = feed_forward_add(**plain, **case.attributes)
    found = int8_feed_forward_add(**case.inputs, **case.attributes)
    difference = np.abs(found - wanted).max()
    assert 0 < difference < 0.05 * np.abs(wanted - case.inputs["residual"]).max()
