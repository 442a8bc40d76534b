"""Linear layers fused with neighbouring operations, on every backend."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
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
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.weight_panels import matrix, panels
from reformer_ops.feed_forward_add.spec import ACTIVATIONS, FEED_FORWARD_ADD
from reformer_ops.int4_feed_forward_add.spec import INT4_FEED_FORWARD_ADD
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD
from reformer_ops.layer_norm_linear.spec import LAYER_NORM_LINEAR
from reformer_ops.linear_add.spec import LINEAR_ADD
from reformer_ops.registry import LINEAR

from .backends import LINEAR_BACKENDS
from .isa_libraries import isa_libraries
from .onnx_models import cached_session, make_model, make_session
from .tolerances import FLOOR, cases, error, exact_in, expected

Array = NDArray[Any]
STREAMS = ("residual", "input")
by_op = pytest.mark.parametrize("op", LINEAR, ids=lambda op: op.name)

EXACT = tuple(op for op in LINEAR if op not in (INT8_FEED_FORWARD_ADD, INT4_FEED_FORWARD_ADD))
"""Operators that do not round: test_quantised_feed_forward.py has the other ones."""


def make_case(op: OpSpec, *sizes: int, **options: Any) -> Case:
    """A case; `sizes` are the batch, the length, the layer's input size and its other size."""
    module = importlib.import_module(f"reformer_ops.{op.torch_name}.cases")
    made: Case = module.make_case(*sizes, **options)
    return made


@cache
def prepared(op: OpSpec, number: int, dtype: str) -> tuple[Case, Array]:
    case = exact_in(cases(op)[number], op, dtype)
    return case, expected(op, case)


def run(backend: str, op: OpSpec, case: Case, dtype: str) -> Array:
    return LINEAR_BACKENDS[backend].run(op, case, dtype)


def plain(op: OpSpec, case: Case, dtype: str) -> Array:
    """The result of plain torch, computed in `dtype`."""
    kind = getattr(torch, dtype)
    given: dict[str, torch.Tensor] = {}
    for name, array in case.inputs.items():
        is_weight = name.endswith("weight") and array.ndim == 3
        given[name] = torch.from_numpy(matrix(array).copy() if is_weight else array).to(kind)
    return FUNCTIONS[op](given, case.attributes).double().numpy()


def normed(given: dict[str, torch.Tensor]) -> torch.Tensor:
    weight, bias = given["norm_weight"], given["norm_bias"]
    return functional.layer_norm(given["input"], weight.shape, weight, bias, 1e-12)


def feed_forward(given: dict[str, torch.Tensor], attributes: Any) -> torch.Tensor:
    activation: Callable[[torch.Tensor], torch.Tensor] = {
        "linear": lambda x: x,
        "relu": functional.relu,
        "gelu": functional.gelu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "silu": functional.silu,
    }[attributes["activation"]]
    up = normed(given) @ given["up_weight"] + given["up_bias"]
    down = activation(up) @ given["down_weight"] + given["down_bias"]
    return given["residual"] + down


FUNCTIONS: dict[OpSpec, Callable[[dict[str, torch.Tensor], Any], torch.Tensor]] = {
    LAYER_NORM_LINEAR: lambda given, _: normed(given) @ given["weight"],
    LINEAR_ADD: lambda given, _: given["residual"] + given["input"] @ given["weight"],
    FEED_FORWARD_ADD: feed_forward,
}


def check(op: OpSpec, case: Case, dtype: str, found: Array, wanted: Array) -> None:
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    bound = 2 * error(plain(op, case, dtype), wanted) + FLOOR[dtype] * np.abs(wanted).max()
    assert error(found, wanted) <= bound


@pytest.mark.parametrize("op", EXACT, ids=lambda op: op.name)
def test_the_yardstick_is_right(op: OpSpec) -> None:
    for case in cases(op):
        wanted = expected(op, case)
        assert error(plain(op, case, "float64"), wanted) <= 1e-12 * np.abs(wanted).max()


def calls() -> Iterator[Any]:
    for backend, kind in LINEAR_BACKENDS.items():
        for dtype in kind.dtypes:
            for op in EXACT:
                for number, case in enumerate(cases(op)):
                    name = f"{backend}-{dtype}-{op.name}-{case.name}"
                    yield pytest.param(backend, dtype, op, number, id=name)


@pytest.mark.parametrize(("backend", "dtype", "op", "number"), list(calls()))
def test_backend_is_within_the_tolerances(
    backend: str, dtype: str, op: OpSpec, number: int
) -> None:
    case, wanted = prepared(op, number, dtype)
    check(op, case, dtype, run(backend, op, case, dtype), wanted)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    op=st.sampled_from(EXACT),
    batch=st.integers(1, 3),
    length=st.integers(1, 200),
    first=st.integers(1, 6),
    second=st.integers(1, 9),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_any_size(
    op: OpSpec, batch: int, length: int, first: int, second: int, activation: str
) -> None:
    options = {"activation": activation} if op == FEED_FORWARD_ADD else {}
    case = make_case(op, batch, length, 16 * first, 16 * second, **options)
    wanted = expected(op, case)
    for backend in LINEAR_BACKENDS:
        if not backend.startswith("onnx"):
            check(op, case, "float32", run(backend, op, case, "float32"), wanted)


@by_op
@pytest.mark.parametrize("rows", [1, 2, 97, 800, 1700])
def test_threads_and_rows_change_no_bit(op: OpSpec, rows: int) -> None:
    """A row gives the same bits alone, among other rows, and with another number of threads."""
    library = next(reversed(isa_libraries().values()))
    case = make_case(op, 1, rows, 64, 288)
    model = make_model(op, case.attributes, "float32", "node")
    one, three = (make_session(model, library=library, threads=n) for n in (1, 3))
    (wanted,) = one.run(None, case.inputs)
    for session in (one, three):
        np.testing.assert_array_equal(session.run(None, case.inputs)[0], wanted)
    last = {
        name: array[:, -1:] if name in STREAMS else array for name, array in case.inputs.items()
    }
    # A tile of one row sums its products in the same order.
    np.testing.assert_array_equal(three.run(None, last)[0], wanted[:, -1:])


@by_op
def test_not_a_number_stays_one(op: OpSpec) -> None:
    for backend in LINEAR_BACKENDS:
        case = make_case(op, 1, 3, 32, 64)
        case.inputs["input"][0, 1, 5] = np.nan
        found = run(backend, op, case, "float32")
        assert np.isnan(found[0, 1]).all(), backend
        assert np.isfinite(found[0, [0, 2]]).all(), backend


def session_of(op: OpSpec, library: Path, case: Case) -> onnxruntime.InferenceSession:
    attributes = tuple(case.attributes.items())
    return cached_session(op.name, attributes, "float32", "node", library=library)


@pytest.mark.parametrize(
    "op", [LINEAR_ADD, FEED_FORWARD_ADD, INT8_FEED_FORWARD_ADD], ids=lambda op: op.name
)
@pytest.mark.parametrize("length", [70, 800])
def test_the_output_may_be_the_residual(op: OpSpec, length: int) -> None:
    for library in isa_libraries().values():
        case = make_case(op, 2, length, 32, 48)
        session = session_of(op, library, case)
        (wanted,) = session.run(None, case.inputs)
        residual = case.inputs["residual"]
        binding = session.io_binding()
        for name, array in case.inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        binding.bind_output("output", "cpu", 0, np.float32, residual.shape, residual.ctypes.data)
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(residual, wanted)


WRONG: list[tuple[OpSpec, dict[str, Array], str]] = [
    (FEED_FORWARD_ADD, {"up_weight": np.zeros((2, 32, 16))}, "48 columns for feed_forward; got 2"),
    (FEED_FORWARD_ADD, {"down_weight": np.zeros((4, 48, 8))}, "feed_forward_add takes"),
    (FEED_FORWARD_ADD, {"norm_bias": np.zeros(16)}, "feed_forward_add takes"),
    (
        INT8_FEED_FORWARD_ADD,
        {"up_weight": np.zeros((3, 7, 16, 4))},
        "32 lines for hidden; got 7 times 4",
    ),
    (INT8_FEED_FORWARD_ADD, {"up_weight": np.zeros((2, 8, 16, 4))}, "48 columns for feed_forward"),
    (INT8_FEED_FORWARD_ADD, {"down_scale": np.zeros(16)}, "int8_feed_forward_add takes"),
    (LAYER_NORM_LINEAR, {"weight": np.zeros((6, 32, 8))}, "in panels of 16 columns; got panels of"),
    (LAYER_NORM_LINEAR, {"norm_bias": np.zeros(16)}, "layer_norm_linear takes"),
    (LINEAR_ADD, {"weight": np.zeros((2, 32, 16))}, "48 columns for hidden; got 2 panels"),
    (LINEAR_ADD, {"weight": np.zeros((3, 16, 16))}, "linear_add takes"),
]


@pytest.mark.parametrize(("op", "change", "message"), WRONG)
def test_what_is_refused(op: OpSpec, change: dict[str, Array], message: str) -> None:
    case = make_case(op, 1, 2, 32, 48)
    kinds = {name: array.dtype for name, array in case.inputs.items()}
    changed = {name: array.astype(kinds[name]) for name, array in change.items()}
    wrong = Case(case.name, {**case.inputs, **changed}, case.attributes)
    for name in LINEAR_BACKENDS:
        if name.startswith("onnx"):
            continue
        run(name, op, case, "float32")  # accepts valid inputs
        with pytest.raises(Exception, match=message):
            run(name, op, wrong, "float32")


def test_an_unknown_activation() -> None:
    library = next(iter(isa_libraries().values()))
    case = make_case(FEED_FORWARD_ADD, 1, 2, 32, 48)
    unknown = Case(case.name, case.inputs, {**case.attributes, "activation": "sine"})
    with pytest.raises(Exception, match="there is no activation sine: it is one of linear, relu"):
        session_of(FEED_FORWARD_ADD, library, unknown)
    for name in ("torch", "torch-portable"):
        with pytest.raises(ValueError, match="linear, relu"):
            run(name, FEED_FORWARD_ADD, unknown, "float32")


def test_panels_hold_the_matrix() -> None:
    weight = np.arange(5 * 48, dtype=np.float32).reshape(5, 48)
    stored = panels(weight)
    assert stored.shape == (3, 5, 16)
    assert stored[1, 2, 3] == weight[2, 19]
    np.testing.assert_array_equal(matrix(stored), weight)
