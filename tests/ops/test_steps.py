"""The step operators of generation, which take one new token and a cache, on every backend."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reformer_ops import torch_ops
from reformer_ops.core.cases import Case
from reformer_ops.core.errors import OpError
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import decomposed
from reformer_ops.registry import STEPS
from reformer_ops.sorted_chunk_attention_step.cases import make_case as sorted_case

from .isa_libraries import isa_libraries
from .onnx_models import Form, cached_session
from .tolerances import FLOOR, as_numpy, cases, error, exact_in, expected, torch_arguments

Array = NDArray[Any]
Outputs = list[Array]
SORTED, CHUNK = STEPS


@dataclass(frozen=True)
class Backend:
    """An implementation: `run` takes operator, case and type, and returns all outputs."""

    name: str
    run: Callable[[OpSpec, Case, str], Outputs]
    dtypes: tuple[str, ...] = ("float32", "float16")


def feeds(op: OpSpec, case: Case, dtype: str) -> dict[str, Array]:
    floats = {o.name: case.inputs[o.name].astype(dtype) for o in op.inputs if o.dtype == "float"}
    return {**case.inputs, **floats}


def on_torch(op: OpSpec, case: Case, dtype: str) -> Outputs:
    operator = getattr(torch_ops, op.torch_name)
    tensors = torch_arguments(op, case, dtype)[: len(op.inputs)]
    return [as_numpy(tensor) for tensor in operator(*tensors, **case.attributes)]


def on_onnxruntime(
    op: OpSpec,
    case: Case,
    dtype: str,
    *,
    form: Form = "node",
    optimised: bool = True,
    library: Path | None = None,
) -> Outputs:
    attributes = tuple(case.attributes.items())
    session = cached_session(op.name, attributes, dtype, form, optimised, library)
    results: Outputs = session.run(None, feeds(op, case, dtype))
    return results


def changed_by_torch(op: OpSpec, case: Case, dtype: str, *, portable: bool) -> Outputs:
    """Change the cache in place, by the native kernels or by the portable implementation."""
    tensors = [tensor.clone() for tensor in torch_arguments(op, case, dtype)[: len(op.inputs)]]
    pasts = [
        tensor for each, tensor in zip(op.in_place.inputs, tensors, strict=True) if each.changed
    ]
    with decomposed() if portable else nullcontext():
        output, *presents = getattr(torch_ops, op.torch_name)(
            *tensors, **case.attributes, in_place=True
        )
    assert all(present is past for present, past in zip(presents, pasts, strict=True))
    return [as_numpy(tensor) for tensor in (output, *pasts)]


BACKENDS = (
    Backend("torch", on_torch, ("float32", "float16", "bfloat16")),
    Backend("torch-in-place", partial(changed_by_torch, portable=True)),
    Backend("torch-in-place-native", partial(changed_by_torch, portable=False)),
    *(
        Backend(
            f"onnx-{form}{'' if optimised else '-unoptimised'}",
            partial(on_onnxruntime, form=form, optimised=optimised),
        )
        for form in ("function", "inlined")
        for optimised in (True, False)
    ),
    *(
        Backend(f"native-{isa}", partial(on_onnxruntime, library=library))
        for isa, library in isa_libraries().items()
    ),
)


def portable(op: OpSpec, case: Case, dtype: str) -> Array:
    """The output of plain torch, computed in `dtype`."""
    module = importlib.import_module(f"reformer_ops.{op.torch_name}.torch_op")
    output: torch.Tensor = module._portable(*torch_arguments(op, case, dtype))[0]
    return output.to(torch.float64).numpy()


@cache
def prepared(op: OpSpec, number: int, dtype: str) -> tuple[Case, Any]:
    case = exact_in(cases(op)[number], op, dtype)
    return case, expected(op, case)


def check(op: OpSpec, case: Case, dtype: str, found: Outputs, wanted: Any) -> None:
    """Assert that the output is within the tolerances of docs/ops.md and the cache is exact."""
    assert np.isfinite(found[0]).all()
    bound = 2 * error(portable(op, case, dtype), wanted[0])
    bound += FLOOR[dtype] * float(np.abs(wanted[0]).max())
    assert error(found[0], wanted[0]) <= bound
    for operand, present, right in zip(op.outputs[1:], found[1:], wanted[1:], strict=True):
        np.testing.assert_array_equal(present, right, err_msg=operand.name)


def calls() -> Iterator[Any]:
    for backend in BACKENDS:
        for dtype in backend.dtypes:
            for op in STEPS:
                for number, case in enumerate(cases(op)):
                    name = f"{backend.name}-{dtype}-{op.name}-{case.name}"
                    yield pytest.param(backend, dtype, op, number, id=name)


@pytest.mark.parametrize(("backend", "dtype", "op", "number"), list(calls()))
def test_backend_is_within_the_tolerances(
    backend: Backend, dtype: str, op: OpSpec, number: int
) -> None:
    case, wanted = prepared(op, number, dtype)
    check(op, case, dtype, backend.run(op, case, dtype), wanted)


@pytest.mark.parametrize("op", STEPS, ids=lambda op: op.name)
def test_the_yardstick_is_right(op: OpSpec) -> None:
    """Plain torch in fp64 gives the numbers of the reference, by another algorithm.

    The bound allows for the logsumexp, which the reference rounds to fp32.
    """
    for case in cases(op):
        wanted = expected(op, case)[0]
        assert error(portable(op, case, "float64"), wanted) <= 5e-7 * np.abs(wanted).max()


def in_place(
    session: onnxruntime.InferenceSession, op: OpSpec, inputs: dict[str, Array]
) -> Outputs:
    """All outputs; each present is written into the buffer of its past."""
    values = {name: np.ascontiguousarray(array.copy()) for name, array in inputs.items()}
    values["output"] = np.zeros_like(values[op.inputs[0].name])
    binding = session.io_binding()

    def bind(bind_one: Callable[..., None], name: str, array: Array) -> None:
        bind_one(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    for operand in op.inputs:
        bind(binding.bind_input, operand.name, values[operand.name])
    buffers = [values[operand.name.replace("present_", "past_")] for operand in op.outputs]
    for operand, buffer in zip(op.outputs, buffers, strict=True):
        bind(binding.bind_output, operand.name, buffer)
    session.run_with_iobinding(binding)
    return buffers


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("op", STEPS, ids=lambda op: op.name)
def test_a_cache_may_be_changed_in_place(op: OpSpec, dtype: str) -> None:
    for isa, library in isa_libraries().items():
        for case in cases(op):
            attributes = tuple(case.attributes.items())
            session = cached_session(op.name, attributes, dtype, "node", library=library)
            inputs = feeds(op, case, dtype)
            copied = session.run(None, inputs)
            for found, wanted in zip(in_place(session, op, inputs), copied, strict=True):
                np.testing.assert_array_equal(found, wanted, err_msg=f"{isa} {case.name}")


def row_of(case: Case, row: int) -> Case:
    return Case(
        case.name,
        {name: array[row : row + 1] for name, array in case.inputs.items()},
        case.attributes,
    )


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("op", STEPS, ids=lambda op: op.name)
def test_a_row_does_not_depend_on_the_others(op: OpSpec, backend: Backend) -> None:
    case = max(cases(op), key=lambda case: len(case.inputs["past_length"]))
    together = backend.run(op, case, "float32")
    for row in range(len(case.inputs["past_length"])):
        alone = backend.run(op, row_of(case, row), "float32")
        for found, wanted in zip(alone, together, strict=True):
            np.testing.assert_allclose(found[0], wanted[row], rtol=0, atol=2e-6)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    chunk_length=st.integers(1, 12),
    before=st.integers(0, 3),
    num_buckets=st.integers(1, 40),
    num_hashes=st.integers(1, 4),
    head_dim=st.integers(1, 40),
    block_length=st.integers(1, 70),
    seed=st.integers(0, 1000),
)
def test_sorted_steps_of_any_size(
    lengths: list[int],
    chunk_length: int,
    before: int,
    num_buckets: int,
    num_hashes: int,
    head_dim: int,
    block_length: int,
    seed: int,
) -> None:
    case = sorted_case(
        lengths,
        chunk_length=chunk_length,
        before=before,
        num_buckets=num_buckets,
        num_hashes=num_hashes,
        head_dim=head_dim,
        block_length=block_length,
        seed=seed,
    )
    wanted = expected(SORTED, case)
    for backend in BACKENDS:
        if backend.name in ("torch", "onnx-inlined") or backend.name.startswith("native"):
            check(SORTED, case, "float32", backend.run(SORTED, case, "float32"), wanted)


def test_step_by_step_the_order_is_that_of_a_sort() -> None:
    """After hundreds of generated tokens, the order is that of a sort of all tokens."""
    rng = np.random.default_rng(0)
    library = next(reversed(isa_libraries().values()))
    case = sorted_case([0, 3], capacity=300, num_hashes=3, num_buckets=7)
    session = cached_session(
        SORTED.name, tuple(case.attributes.items()), "float32", "node", library=library
    )
    inputs = dict(case.inputs)
    for _ in range(290):
        inputs["buckets"] = rng.integers(7, size=inputs["buckets"].shape, dtype=np.int32)
        inputs["attend_all"] = inputs["past_length"] < case.attributes["chunk_length"]
        _, *presents = session.run(None, inputs)
        for operand, present in zip(SORTED.outputs[1:], presents, strict=True):
            inputs[operand.name.replace("present", "past")] = present
        inputs["past_length"] = inputs["past_length"] + 1
    for row, length in enumerate(inputs["past_length"]):
        tokens = inputs["past_buckets"][row, ..., :length]
        in_order = np.argsort(tokens, axis=-1, kind="stable")
        order, starts = inputs["past_order"][row], inputs["past_starts"][row]
        block_length = order.shape[-1]
        block, within = np.divmod(np.arange(length), block_length)
        slots = block * block_length + (starts[..., block] + within) % block_length
        found = np.take_along_axis(order.reshape(*order.shape[:2], -1), slots, axis=-1)
        np.testing.assert_array_equal(found, in_order)


WRONG = [
    (SORTED, {"past_length": np.array([13, 1, 1], np.int32)}, "room for one more token; got 13"),
    (SORTED, {"past_length": np.array([-1, 1, 1], np.int32)}, "past_length of 0 or more; got -1"),
    (
        SORTED,
        {"attend_all": np.array([True] * 3)},
        "attend_all for at most 4 tokens, a chunk; got 6",
    ),
    (SORTED, {"past_order": np.full((3, 2, 2, 2, 8), 99, np.int32)}, "got 99: the cache is dama"),
    (SORTED, {"past_starts": np.full((3, 2, 2, 2), 8, np.int32)}, "starts from 0 to 7; got 8"),
    (SORTED, {"past_starts": np.full((3, 2, 2, 2), -1, np.int32)}, "starts from 0 to 7; got -1"),
    (
        SORTED,
        {
            "past_order": np.zeros((3, 2, 2, 1, 8), np.int32),
            "past_starts": np.zeros((3, 2, 2, 1), np.int32),
        },
        "room for as many tokens as the cache, 13; got 1 blocks of 8",
    ),
    (CHUNK, {"past_length": np.array([-1, 1, 1], np.int32)}, "past_length of 0 or more; got -1"),
    (CHUNK, {n: np.zeros((3, 9, 2, 4), np.float32) for n in ("past_key", "past_value")}, "got 9"),
]


def some_case(op: OpSpec) -> Case:
    if op == SORTED:
        return sorted_case([1, 6, 10])
    return importlib.import_module("reformer_ops.chunk_attention_step.cases").make_case([1, 6, 10])


@pytest.mark.parametrize(("op", "change", "message"), WRONG)
def test_what_a_cpu_kernel_refuses(op: OpSpec, change: dict[str, Array], message: str) -> None:
    """Without these checks, it would read or write memory outside its tensors."""
    case = some_case(op)
    library = next(iter(isa_libraries().values()))
    session = cached_session(
        op.name, tuple(case.attributes.items()), "float32", "node", library=library
    )
    session.run(None, case.inputs)  # accepts valid inputs
    with pytest.raises(Exception, match=message):
        session.run(None, {**case.inputs, **change})


@pytest.mark.parametrize("op", STEPS, ids=lambda op: op.name)
def test_what_torch_refuses(op: OpSpec) -> None:
    case = some_case(op)
    operator = importlib.import_module(f"reformer_ops.{op.torch_name}.torch_op")
    arguments = torch_arguments(op, case, "float32")
    function = getattr(operator, op.torch_name)
    values, attributes = arguments[: len(op.inputs)], case.attributes
    with pytest.raises(OpError, match=r"takes (key|value) as"):
        function(values[0], values[1][:, :, :2], *values[2:], **attributes)
    with pytest.raises(OpError, match="chunk_length >= 1; got 0"):
        function(*values, **{**attributes, "chunk_length": 0})
    if op == CHUNK:
        with pytest.raises(OpError, match="takes a cache of 16 tokens, 4 chunks of 4; got 8"):
            function(*values, **{**attributes, "num_chunks_before": 3})


@pytest.mark.parametrize("op", STEPS, ids=lambda op: op.name)
def test_what_torch_refuses_in_place(op: OpSpec) -> None:
    case = some_case(op)
    function = partial(getattr(torch_ops, op.torch_name), **case.attributes, in_place=True)
    place = [operand.name for operand in op.inputs].index("past_key")
    values = list(torch_arguments(op, case, "float32")[: len(op.inputs)])
    strided = list(values)
    strided[place] = values[place].transpose(2, 3).contiguous().transpose(2, 3)
    with pytest.raises(OpError, match="in place takes a contiguous past_key of float32 or float16"):
        function(*strided)
    with pytest.raises(OpError, match="in place takes a contiguous past_key of float32 or float16"):
        function(*torch_arguments(op, case, "bfloat16")[: len(op.inputs)])
    with pytest.raises(OpError, match="chunk_length >= 1; got 0"):
        function(*values, chunk_length=0)
    before = [value.clone() for value in values]
    length = [operand.name for operand in op.inputs].index("past_length")
    values[length] = torch.full_like(values[length], -1)
    with pytest.raises(OpError, match="past_length of 0 or more; got -1"):
        function(*values)
    assert all(torch.equal(a, b) for a, b in zip(before[:length], values[:length], strict=True))
