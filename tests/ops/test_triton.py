"""Tests of the Triton kernels besides their numbers: the sort, dispatch on CUDA, refused arguments.

No GPU is needed: the kernels run in the interpreter, and the dispatcher shows what it would call.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from reformer_ops import torch_ops  # noqa: F401  (registers the operators)
from reformer_ops.core.errors import NativeLibraryError, OpError
from reformer_ops.core.native import requested
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE
from reformer_ops.registry import OPS

from .examples import EXAMPLES
from .tolerances import torch_arguments
from .triton_interpreter import interpret

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

SORT = "reformer_ops.sorted_chunk_attention.triton_op:sort_by_bucket"

by_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


def random_buckets(length: int, num_buckets: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(0, num_buckets + 1, (1, 2, 1, length), generator=generator).int()


@pytest.mark.parametrize("alone", [True, False], ids=["one-launch", "two-launches"])
@pytest.mark.parametrize(
    ("length", "num_buckets"),
    [
        (1, 1),
        (300, 2),  # tiles that are not full
        (2048, 8192),  # a segment, two passes
        (5000, 1023),  # three segments, the most digit values of one pass
        (2100, 2**31 - 1),  # four passes; the highest possible bucket
    ],
)
def test_sort_is_stable_and_exact(length: int, num_buckets: int, alone: bool) -> None:
    buckets = random_buckets(length, num_buckets)
    order = interpret(SORT, buckets, num_buckets=num_buckets, alone=alone)
    assert order.dtype == torch.int32
    assert np.array_equal(order, np.argsort(buckets.numpy(), axis=-1, kind="stable"))


def test_buckets_out_of_range_move_nothing_out_of_its_row() -> None:
    buckets = random_buckets(300, 2**31 - 2)
    order = interpret(SORT, buckets, num_buckets=8)
    assert torch.equal(order.sort().values, torch.arange(300).int().expand_as(order))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_buckets_of_what_is_no_number_stay_in_range(value: float) -> None:
    query = torch.randn(1, 64, 2, 16, generator=torch.Generator().manual_seed(0))
    query[:, ::3, :, ::5] = value
    query[0, 7] = value
    rotations = torch.randn(2, 16, 1, 23, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 64, dtype=torch.bool)
    buckets = interpret("lsh_bucket", query, rotations, mask, (6, 40))
    assert buckets.min() >= 0
    assert buckets.max() < 240


@by_op
def test_any_strides_in(op: OpSpec) -> None:
    given = torch_arguments(op, EXAMPLES[op.name], "float32")
    views = [
        torch.stack([v, v], dim=-1)[..., 0].transpose(0, 1).contiguous().transpose(0, 1)
        if torch.is_tensor(v)
        else v
        for v in given
    ]
    assert not any(v.is_contiguous() for v in views if torch.is_tensor(v))
    found = interpret(op.torch_name, *views)
    assert found.is_contiguous()
    assert torch.equal(found, interpret(op.torch_name, *given))


@by_op
def test_operands_are_checked_before_a_launch(op: OpSpec) -> None:
    given = torch_arguments(op, EXAMPLES[op.name], "float32")
    given[0] = given[0][:, :0]
    with pytest.raises(OpError, match="with no axis empty"):
        interpret(op.torch_name, *given)


@by_op
def test_cuda_tensors_get_these_kernels(op: OpSpec) -> None:
    if requested() == "portable":
        pytest.skip("REFORMER_OPS=portable in the environment of the tests: there are none")
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"reformer::{op.torch_name}", "CUDA")


ON_CUDA = """
import sys, torch
sys.modules["triton"] = None  # as if it were not installed
from reformer_ops import torch_ops
from reformer_ops.core.cases import Case
operator = torch.ops.reformer.chunk_attention.default
if not torch._C._dispatch_has_kernel_for_dispatch_key("reformer::chunk_attention", "CUDA"):
    print("portable")
    raise SystemExit
x = torch.ones(1, 4, 1, 2)
mask = torch.ones(1, 4, dtype=torch.bool)
cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
found = operator.redispatch(cuda, x, x, x, mask, 2, 1, 0, True)
print(torch.equal(found, operator(x, x, x, mask, 2, 1, 0, True)))
"""


def without_triton(choice: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ON_CUDA],
        env={**os.environ, "REFORMER_OPS": choice},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_triton_the_portable_operators_run_and_say_so() -> None:
    done = without_triton("auto")
    assert done.stdout == "True\n", done.stderr
    assert "chunk_attention on CUDA needs triton" in done.stderr


def test_portable_asked_for_is_portable_on_cuda() -> None:
    assert without_triton("portable").stdout == "portable\n"


def test_native_asked_for_and_no_triton_is_an_error() -> None:
    try:
        from reformer_ops import library_path

        library_path("torch")
    except NativeLibraryError:
        pytest.skip("no native library is installed here: REFORMER_OPS=native fails before")
    done = without_triton("native")
    assert done.returncode != 0
    assert "NativeLibraryError: chunk_attention on CUDA needs triton" in done.stderr
    assert "pip install triton" in done.stderr
    assert set(PORTABLE) >= {op.torch_name for op in OPS}
