"""`FeedForwardAdd`: its body in ONNX Runtime, its CPU kernels for each instruction set."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from reformer_ops.core.cases import Case
from reformer_ops.feed_forward_add.cases import make_case
from reformer_ops.feed_forward_add.reference import matrix
from reformer_ops.feed_forward_add.spec import ACTIVATIONS, FEED_FORWARD_ADD

from .isa_libraries import isa_libraries
from .onnx_models import Form, cached_session, make_model, make_session
from .tolerances import FLOOR, cases, error, exact_in, expected

Array = NDArray[Any]
DTYPES = ("float32", "float16")
CASES = cases(FEED_FORWARD_ADD)
BACKENDS: dict[str, tuple[Form, Path | None]] = {
    "function": ("function", None),
    "inlined": ("inlined", None),
    **{f"native-{isa}": ("node", library) for isa, library in isa_libraries().items()},
}


@cache
def prepared(number: int, dtype: str) -> tuple[Case, Array]:
    case = exact_in(CASES[number], FEED_FORWARD_ADD, dtype)
    return case, expected(FEED_FORWARD_ADD, case)


def feeds(case: Case, dtype: str) -> dict[str, Array]:
    return {name: array.astype(dtype) for name, array in case.inputs.items()}


def run(backend: str, case: Case, dtype: str) -> Array:
    form, library = BACKENDS[backend]
    attributes = tuple(case.attributes.items())
    session = cached_session(FEED_FORWARD_ADD.name, attributes, dtype, form, library=library)
    found: Array = session.run(None, feeds(case, dtype))[0]
    return found


def plain(case: Case, dtype: str) -> Array:
    """In plain torch, in any type."""
    kind = getattr(torch, dtype)
    given = {name: torch.from_numpy(array) for name, array in case.inputs.items()}
    for name in ("up_weight", "down_weight"):
        given[name] = torch.from_numpy(matrix(case.inputs[name]).copy())
    given = {name: tensor.to(kind) for name, tensor in given.items()}
    activation = {
        "linear": lambda x: x,
        "relu": functional.relu,
        "gelu": functional.gelu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "silu": functional.silu,
    }[case.attributes["activation"]]
    weight, bias = given["norm_weight"], given["norm_bias"]
    normed = functional.layer_norm(given["input"], weight.shape, weight, bias, 1e-12)
    up = normed @ given["up_weight"] + given["up_bias"]
    down = activation(up) @ given["down_weight"] + given["down_bias"]
    return (given["residual"] + down).double().numpy()


def check(case: Case, dtype: str, found: Array, wanted: Array) -> None:
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    bound = 2 * error(plain(case, dtype), wanted) + FLOOR[dtype] * np.abs(wanted).max()
    assert error(found, wanted) <= bound


def test_the_yardstick_is_right() -> None:
    for case in CASES:
        wanted = expected(FEED_FORWARD_ADD, case)
        assert error(plain(case, "float64"), wanted) <= 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number].name)
@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_is_within_the_tolerances(backend: str, number: int, dtype: str) -> None:
    case, wanted = prepared(number, dtype)
    check(case, dtype, run(backend, case, dtype), wanted)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 200),
    hidden=st.integers(1, 6),
    feed_forward=st.integers(1, 9),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_any_size(batch: int, length: int, hidden: int, feed_forward: int, activation: str) -> None:
    case = make_case(batch, length, 16 * hidden, 16 * feed_forward, activation=activation)
    wanted = expected(FEED_FORWARD_ADD, case)
    for backend in BACKENDS:
        if backend.startswith("native"):
            check(case, "float32", run(backend, case, "float32"), wanted)


@pytest.mark.parametrize("rows", [1, 2, 97, 800])
def test_threads_and_rows_change_no_bit(rows: int) -> None:
    """The same rows alone, by another number of threads, or among others."""
    library = next(reversed(isa_libraries().values()))
    case = make_case(1, rows, 64, 272, activation="gelu")
    model = make_model(FEED_FORWARD_ADD, case.attributes, "float32", "node")
    one, three = (make_session(model, library=library, threads=n) for n in (1, 3))
    (wanted,) = one.run(None, case.inputs)
    for session in (one, three):
        np.testing.assert_array_equal(session.run(None, case.inputs)[0], wanted)
    last = {
        name: array[:, -1:] if name in ("residual", "input") else array
        for name, array in case.inputs.items()
    }
    # A tile of one row sums its products in the same order.
    np.testing.assert_array_equal(three.run(None, last)[0], wanted[:, -1:])


def test_not_a_number_stays_one() -> None:
    for backend in BACKENDS:
        case = make_case(1, 3, 32, 48)
        case.inputs["input"][0, 1, 5] = np.nan
        found = run(backend, case, "float32")
        assert np.isnan(found[0, 1]).all(), backend
        assert np.isfinite(found[0, [0, 2]]).all(), backend


def session_of(library: Path, case: Case) -> onnxruntime.InferenceSession:
    attributes = tuple(case.attributes.items())
    return cached_session(FEED_FORWARD_ADD.name, attributes, "float32", "node", library=library)


def test_the_output_may_be_the_residual() -> None:
    for library in isa_libraries().values():
        case = make_case(2, 70, 32, 48)
        session = session_of(library, case)
        (wanted,) = session.run(None, case.inputs)
        residual = case.inputs["residual"]
        binding = session.io_binding()
        for name, array in case.inputs.items():
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        binding.bind_output("output", "cpu", 0, np.float32, residual.shape, residual.ctypes.data)
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(residual, wanted)


def test_what_the_kernel_refuses() -> None:
    library = next(iter(isa_libraries().values()))
    case = make_case(1, 2, 32, 48)
    wrong = {
        "up_weight": np.zeros((2, 32, 16), np.float32),
        "down_weight": np.zeros((4, 48, 8), np.float32),
        "norm_bias": np.zeros(16, np.float32),
    }
    for name, array in wrong.items():
        changed = Case(case.name, {**case.inputs, name: array}, case.attributes)
        with pytest.raises(Exception, match="feed_forward_add takes"):
            session_of(library, changed).run(None, changed.inputs)
    unknown = Case(case.name, case.inputs, {**case.attributes, "activation": "sine"})
    with pytest.raises(Exception, match="there is no activation sine: it is one of linear, relu"):
        session_of(library, unknown)
