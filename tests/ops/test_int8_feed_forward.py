"""The feed-forward with weights of 8 bits: its body in ONNX Runtime, and its CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reformer_ops.core.cases import Case
from reformer_ops.core.int8 import integers
from reformer_ops.core.weight_panels import panels
from reformer_ops.feed_forward_add.reference import feed_forward_add
from reformer_ops.int8_feed_forward_add.reference import int8_feed_forward_add
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD

from .isa_libraries import isa_libraries
from .onnx_models import Form, cached_session
from .tolerances import cases, exact_in

Array = NDArray[Any]
CASES = cases(INT8_FEED_FORWARD_ADD)
FLOATS = [operand.name for operand in INT8_FEED_FORWARD_ADD.inputs if operand.dtype == "float"]
BACKENDS: dict[str, tuple[Form, Path | None]] = {
    "function": ("function", None),
    "inlined": ("inlined", None),
    **{f"native-{isa}": ("node", library) for isa, library in isa_libraries().items()},
}


def run(backend: str, case: Case, dtype: str) -> Array:
    form, library = BACKENDS[backend]
    attributes = tuple(case.attributes.items())
    session = cached_session(INT8_FEED_FORWARD_ADD.name, attributes, dtype, form, library=library)
    feeds = {n: a.astype(dtype) if n in FLOATS else a for n, a in case.inputs.items()}
    found: Array = session.run(None, feeds)[0]
    return found


def calls() -> Iterator[Any]:
    for backend in BACKENDS:
        for dtype in ("float32", "float16"):
            for number, case in enumerate(CASES):
                yield pytest.param(backend, dtype, number, id=f"{backend}-{dtype}-{case.name}")


@pytest.mark.parametrize(("backend", "dtype", "number"), list(calls()))
def test_backend_is_within_the_tolerances(backend: str, dtype: str, number: int) -> None:
    """A number between two integers may be rounded to either: then its row differs by more."""
    case = exact_in(CASES[number], INT8_FEED_FORWARD_ADD, dtype)
    wanted = int8_feed_forward_add(**case.inputs, **case.attributes)
    found = run(backend, case, dtype)
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
