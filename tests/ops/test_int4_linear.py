"""Linear layers with weights of 4 bits, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reformer_ops.core.cases import Case
from reformer_ops.core.errors import OpError
from reformer_ops.core.int4 import integers, quantise
from reformer_ops.core.int8 import int8_panels
from reformer_ops.int4_linear.cases import make_case
from reformer_ops.int4_linear.reference import int4_linear as reference
from reformer_ops.int4_linear.spec import INT4_LINEAR
from reformer_ops.int8_linear.spec import INT8_LINEAR

from .isa_libraries import isa_libraries
from .onnx_models import make_model, make_session
from .quantised_backends import backends, calls, check, prepared
from .tolerances import error

Array = NDArray[Any]

BACKENDS = backends(INT4_LINEAR)


@pytest.mark.parametrize(("backend", "dtype", "number"), list(calls(INT4_LINEAR)))
def test_backend_is_within_the_tolerances(backend: str, dtype: str, number: int) -> None:
    case, wanted = prepared(INT4_LINEAR, number, dtype)
    check(BACKENDS[backend](case, dtype), wanted, dtype)


def as_8_bits(case: Case) -> Case:
    """`Int8Linear` with the same integers."""
    inputs = dict(case.inputs)
    weight = int8_panels(integers(inputs.pop("weight"), inputs.pop("step")))
    return Case(case.name, {**inputs, "weight": weight}, {})


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batch=st.integers(1, 3),
    length=st.sampled_from([1, 2, 3, 5, 50, 130]),
    depth=st.integers(1, 40),
    columns=st.integers(1, 18),
)
def test_results_are_those_of_8_bits_with_the_same_integers(
    batch: int, length: int, depth: int, columns: int
) -> None:
    """Bit for bit: few rows are multiplied with 4 bits, many rows with 8."""
    case = make_case(batch, length, 32 * depth, 16 * columns)
    others = backends(INT8_LINEAR)
    for name, run in BACKENDS.items():
        if name.startswith(("native", "torch")):
            wanted = others[name](as_8_bits(case), "float32")
            np.testing.assert_array_equal(run(case, "float32"), wanted)


@pytest.mark.parametrize("rows", [1, 2, 97, 1700])
def test_threads_and_rows_change_no_bit(rows: int) -> None:
    """The same rows alone, with another number of threads, or among others."""
    for library in isa_libraries(int8=True).values():
        case = make_case(1, rows, 544, 272)
        model = make_model(INT4_LINEAR, {}, "float32", "node")
        one, three = (make_session(model, library=library, threads=n) for n in (1, 3))
        (wanted,) = one.run(None, case.inputs)
        np.testing.assert_array_equal(three.run(None, case.inputs)[0], wanted)
        last = {**case.inputs, "input": case.inputs["input"][:, -1:]}
        np.testing.assert_array_equal(three.run(None, last)[0], wanted[:, -1:])


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_not_a_number_stays_in_its_row(number: float) -> None:
    for length in (2, 5):
        for name, run in BACKENDS.items():
            case = make_case(1, length, 608, 48)
            case.inputs["input"][0, 1, 520] = number
            found = run(case, "float32")[0]
            assert not np.isfinite(found[1]).any(), name
            assert np.isfinite(np.delete(found, 1, axis=0)).all(), name


def test_the_error_of_4_bits() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((768, 256))
    weight, step, scale = quantise(matrix)
    found = integers(weight, step) * scale
    assert np.sqrt(np.square(found - matrix).mean()) < 0.095
    rows = rng.standard_normal((1, 64, 768)).astype(np.float32)
    product = reference(rows, weight, step, scale, np.zeros(256))
    assert error(product, rows @ matrix) < 0.15 * np.abs(rows @ matrix).max()


def test_numbers_that_4_bits_hold() -> None:
    """Integers from -8 to 7 times a step of each block come back, if a block has all of them."""
    rng = np.random.default_rng(0)
    whole = np.tile(np.arange(-8, 8), 4)[:, None].repeat(32, axis=1)
    steps = np.repeat(rng.integers(1, 16, (2, 32)) * rng.choice([-1, 1], (2, 32)), 32, axis=0)
    steps[:32] = 15  # the largest number of each column is 120 times its scale
    weight, step, scale = quantise(whole * steps * 0.5)
    assert (weight.shape, weight.dtype) == ((2, 8, 16, 4), np.uint8)
    assert (step.shape, step.dtype) == ((2, 2, 16), np.int8)
    np.testing.assert_array_equal(integers(weight, step), whole * steps)
    np.testing.assert_array_equal(scale, 0.5)
    # Column 19, line 45: octet 5, second half.
    assert weight[1, 5, 3, 1] >> 4 == whole[45, 19] + 8


def test_columns_of_zeros() -> None:
    weight, step, scale = quantise(np.zeros((32, 16)))
    assert (integers(weight, step) == 0).all()
    assert (scale == 1).all()


WRONG: list[tuple[dict[str, Array], str]] = [
    ({"weight": np.zeros((3, 8, 16, 2), np.uint8)}, "panels of 16 columns and 4 bytes; got panels"),
    ({"step": np.zeros((3, 1, 16), np.int8)}, "a step for each 32 lines; got 1 steps for 64 lines"),
    ({"input": np.zeros((1, 2, 32), np.float32)}, "takes an input of depth 64 and 48 scales"),
    ({"step": np.zeros((2, 2, 16), np.int8)}, "with panels = 3 as in the inputs before it"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_refused(change: dict[str, Array], message: str) -> None:
    case = make_case(1, 2, 64, 48)
    changed = Case(case.name, {**case.inputs, **change}, {})
    for name, run in BACKENDS.items():
        if name.startswith("torch"):
            with pytest.raises(OpError, match=message):
                run(changed, "float32")
        if name.startswith("native"):
            with pytest.raises(Exception, match=message):
                run(changed, "float32")
