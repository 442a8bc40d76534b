"""Linear layers with weights of 8 bits, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reformer_ops.core.cases import Case
from reformer_ops.core.errors import OpError
from reformer_ops.core.int8 import integers, quantise
from reformer_ops.int8_linear.cases import make_case
from reformer_ops.int8_linear.reference import int8_linear as reference
from reformer_ops.int8_linear.spec import INT8_LINEAR

from .isa_libraries import isa_libraries
from .onnx_models import make_model, make_session
from .quantised_backends import backends, calls, check, prepared
from .tolerances import error

Array = NDArray[Any]

BACKENDS = backends(INT8_LINEAR)


@pytest.mark.parametrize(("backend", "dtype", "number"), list(calls(INT8_LINEAR)))
def test_backend_is_within_the_tolerances(backend: str, dtype: str, number: int) -> None:
    case, wanted = prepared(INT8_LINEAR, number, dtype)
    check(BACKENDS[backend](case, dtype), wanted, dtype)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 200),
    depth=st.integers(1, 150),
    columns=st.integers(1, 9),
)
def test_any_size(batch: int, length: int, depth: int, columns: int) -> None:
    case = make_case(batch, length, 4 * depth, 16 * columns)
    wanted = reference(**case.inputs)
    for name, run in BACKENDS.items():
        if name.startswith(("native", "torch")):
            check(run(case, "float32"), wanted, "float32")


@pytest.mark.parametrize("rows", [1, 2, 97, 800, 1700])
def test_threads_and_rows_change_no_bit(rows: int) -> None:
    """The same rows alone, with another number of threads, or among others."""
    for library in isa_libraries(int8=True).values():
        case = make_case(1, rows, 524, 272)
        model = make_model(INT8_LINEAR, {}, "float32", "node")
        one, three = (make_session(model, library=library, threads=n) for n in (1, 3))
        (wanted,) = one.run(None, case.inputs)
        np.testing.assert_array_equal(three.run(None, case.inputs)[0], wanted)
        last = {**case.inputs, "input": case.inputs["input"][:, -1:]}
        np.testing.assert_array_equal(three.run(None, last)[0], wanted[:, -1:])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_not_a_number_stays_in_its_row(number: float) -> None:
    for name, run in BACKENDS.items():
        case = make_case(1, 3, 600, 48)
        case.inputs["input"][0, 1, 520] = number
        found = run(case, "float32")
        assert not np.isfinite(found[0, 1]).any(), name
        assert np.isfinite(found[0, [0, 2]]).all(), name


def test_the_error_of_8_bits() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((768, 256))
    rows = rng.standard_normal((1, 64, 768)).astype(np.float32)
    panels, scale = quantise(matrix)
    found = reference(rows, panels, scale, np.zeros(256))
    assert error(found, rows @ matrix) < 0.04 * np.abs(rows @ matrix).max()
    assert np.abs(integers(panels) * scale - matrix).max() <= scale.max() / 2


def test_columns_of_zeros() -> None:
    panels, scale = quantise(np.zeros((8, 16)))
    assert (integers(panels) == 0).all()
    assert (scale == 1).all()


WRONG: list[tuple[dict[str, Array], str]] = [
    ({"weight": np.zeros((3, 8, 8, 4), np.uint8)}, "panels of 16 columns and 4 lines; got panels"),
    ({"weight": np.zeros((3, 16, 16, 2), np.uint8)}, "panels of 16 columns and 4 lines"),
    ({"weight": np.zeros((3, 7, 16, 4), np.uint8)}, "takes an input of depth 28 and 48 scales"),
    ({"weight": np.zeros((2, 8, 16, 4), np.uint8)}, "got depth 32 and 48 scales"),
    ({"bias": np.zeros(32, np.float32)}, r"with columns = 48 as in the inputs before it"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_refused(change: dict[str, Array], message: str) -> None:
    case = make_case(1, 2, 32, 48)
    changed = Case(case.name, {**case.inputs, **change}, {})
    for name, run in BACKENDS.items():
        if name.startswith("torch"):
            with pytest.raises(OpError, match=message):
                run(changed, "float32")
        if name.startswith("native"):
            with pytest.raises(Exception, match=message):
                run(changed, "float32")


def test_panels_hold_the_matrix() -> None:
    matrix = np.arange(-96, 96).reshape(12, 16)
    wide = np.concatenate([matrix, -matrix], axis=1)
    panels, scale = quantise(wide * 2.0)
    assert panels.shape == (2, 3, 16, 4)
    line = integers(panels)
    assert line.shape == wide.shape
    assert panels[1, 2, 3, 1] == int(line[9, 19]) + 128
    assert np.abs(line * scale - wide * 2.0).max() <= scale.max() / 2
