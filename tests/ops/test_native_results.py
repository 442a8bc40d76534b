"""The native kernels give the same bytes in both frameworks, with any threads, and concurrently."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reformer_ops import library_path, native_status
from reformer_ops.chunk_attention.cases import make_case as make_chunk_attention
from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.lsh_bucket.cases import make_case as make_lsh_bucket
from reformer_ops.registry import OPS
from reformer_ops.sorted_chunk_attention.cases import make_case as make_sorted_chunk_attention

from . import tolerances
from .backends import native_onnxruntime
from .examples import EXAMPLES
from .onnx_models import make_model, make_session
from .tolerances import torch_arguments

DTYPES = ("float32", "float16")

LARGE: dict[str, Case] = {
    "LshBucket": make_lsh_bucket(
        batch=2, length=4096, heads=3, head_dim=32, num_hashes=3, factors=(16, 32), mask="ragged"
    ),
    "SortedChunkAttention": make_sorted_chunk_attention(
        batch=2,
        length=2048,
        heads=3,
        head_dim=33,
        num_hashes=3,
        num_buckets=64,
        chunk_length=32,
        after=1,
        mask="ragged",
    ),
    "ChunkAttention": make_chunk_attention(
        batch=2, length=2048, heads=3, head_dim=33, chunk_length=32, after=1, mask="ragged"
    ),
}
"""Cases that are large enough for many parallel tasks."""

by_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def in_torch(op: OpSpec, case: Case, dtype: str) -> NDArray[Any]:
    result: torch.Tensor = getattr(torch.ops.reformer, op.torch_name)(
        *torch_arguments(op, case, dtype)
    )
    return result.numpy()


def feeds(op: OpSpec, case: Case, dtype: str) -> dict[str, NDArray[Any]]:
    floats = {o.name: case.inputs[o.name].astype(dtype) for o in op.inputs if o.dtype == "float"}
    return case.inputs | floats


def test_torch_runs_them() -> None:
    assert native_status("torch").available


@by_dtype
@pytest.mark.parametrize(
    ("op", "number"),
    [
        pytest.param(op, number, id=f"{op.name}-{tolerances.cases(op)[number].name}")
        for op, number in tolerances.ALL_CASES
    ],
)
def test_torch_and_onnxruntime_agree_to_the_bit(op: OpSpec, number: int, dtype: str) -> None:
    case = tolerances.exact_in(tolerances.cases(op)[number], op, dtype)
    found = native_onnxruntime(op, case, dtype, library=library_path("ort"))
    assert found.tobytes() == in_torch(op, case, dtype).tobytes()


@by_op
def test_bfloat16_is_computed_in_fp32_and_rounded_once(op: OpSpec) -> None:
    """There are no bfloat16 kernels: torch converts the inputs and outputs of the fp32 kernels."""
    case = tolerances.exact_in(EXAMPLES[op.name], op, "bfloat16")
    operator = getattr(torch.ops.reformer, op.torch_name)
    found = operator(*torch_arguments(op, case, "bfloat16"))
    wanted = operator(*torch_arguments(op, case, "float32"))
    assert torch.equal(found, wanted.to(found.dtype))
    assert found.dtype == (torch.bfloat16 if wanted.is_floating_point() else torch.int32)


@by_op
@by_dtype
def test_the_number_of_threads_changes_nothing(op: OpSpec, dtype: str, torch_threads: None) -> None:
    case = LARGE[op.name]
    model = make_model(op, case.attributes, dtype, "node")
    results = set()
    for threads in (1, 2, 3, 7):
        session = make_session(model, library=library_path("ort"), threads=threads)
        results.add(session.run(None, feeds(op, case, dtype))[0].tobytes())
        torch.set_num_threads(threads)
        results.add(in_torch(op, case, dtype).tobytes())
    assert len(results) == 1


@by_op
def test_many_sessions_at_the_same_time(op: OpSpec) -> None:
    """torch and several sessions with their own threads, each called from several threads."""
    case = LARGE[op.name]
    model = make_model(op, case.attributes, "float32", "node")
    sessions = [make_session(model, library=library_path("ort"), threads=2) for _ in range(3)]
    inputs = feeds(op, case, "float32")

    def run(number: int) -> bytes:
        if number % 4 == 3:
            return in_torch(op, case, "float32").tobytes()
        output: NDArray[Any] = sessions[number % 4].run(None, inputs)[0]
        return output.tobytes()

    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(run, range(32)))
    assert len(results) == 1


def test_sessions_of_different_size_share_the_working_memory_of_a_thread() -> None:
    """This memory grows and is kept: data of a larger call must not change a smaller one."""
    op = OPS[1]
    wanted = {}
    for example in (EXAMPLES, LARGE, EXAMPLES, LARGE):
        case = example[op.name]
        for dtype in DTYPES:
            found = in_torch(op, case, dtype).tobytes()
            assert wanted.setdefault((case.name, dtype), found) == found


@by_op
def test_inputs_may_lie_anywhere(op: OpSpec) -> None:
    """Unaligned buffers, which a caller of onnxruntime may pass."""
    case = EXAMPLES[op.name]
    session = make_session(
        make_model(op, case.attributes, "float32", "node"), library=library_path("ort")
    )
    (wanted,) = session.run(None, case.inputs)
    for shift in (1, 3):
        shifted = {}
        for name, array in case.inputs.items():
            room = np.empty(array.size + shift, array.dtype)
            room[shift:] = array.ravel()
            shifted[name] = room[shift:].reshape(array.shape)
        (found,) = session.run(None, shifted)
        assert np.array_equal(found, wanted)
