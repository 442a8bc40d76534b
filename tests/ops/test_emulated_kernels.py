"""The PTX of our Triton kernels, run by the emulator, is within the tolerances of docs/ops.md.

This PTX is what the driver of each GPU would get. But the emulator is ours, it computes approximate
instructions exactly, and nothing here runs on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

from reformer_ops.core.spec import OpSpec
from reformer_ops.registry import OPS
from reformer_ops.triton.compile import TARGETS

from ..tools.ptx.emulated import emulate, sort
from ..tools.ptx.errors import UnknownInstructionError
from . import tolerances

DTYPES = ("float32", "float16", "bfloat16")

FEW = {
    "LshBucket": ("b1-l96-h3-d7-r3-f6x10-full", "ties"),
    "SortedChunkAttention": (
        "b2-l24-h3-d7-r3-n6-c12-look1.1-both-full",
        "b3-l48-h2-d16-r2-n18-c16-look1.0-causal-ragged",
        "b2-l5-h2-d4-r2-n4-c8-look1.0-causal-full",
    ),
    "ChunkAttention": (
        "b1-l8-h2-d4-c4-look3.2-both-full",
        "b3-l48-h2-d16-c16-look1.1-both-ragged",
    ),
}
"""Cases that run for every GPU: odd sizes, padding, short sequences, rings that wrap around."""

FIRST = (("float32", 80), ("float16", 75), ("bfloat16", 120))
"""The types and GPUs that `make test` runs the cases of `FEW` for. `make test-all` runs them for
all types and GPUs (one case per operator on sm_86 and sm_89, whose PTX is nearly that of sm_80),
and the other cases on sm_80, except in bfloat16."""


def numbers(op: OpSpec) -> dict[str, int]:
    return {case.name: number for number, case in enumerate(tolerances.cases(op))}


def combinations() -> Iterator[Any]:
    for op in OPS:
        for name, number in numbers(op).items():
            for dtype in DTYPES:
                for target in TARGETS:
                    if not chosen(op, name, dtype, target):
                        continue
                    fast = name in FEW[op.name] and (dtype, target) in FIRST
                    marks = [] if fast else [pytest.mark.slow]
                    case_id = f"{op.name}-{name}-{dtype}-sm{target}"
                    yield pytest.param(op, number, dtype, target, id=case_id, marks=marks)


def chosen(op: OpSpec, name: str, dtype: str, target: int) -> bool:
    if dtype == "bfloat16" and target < 80:
        return False
    if name not in FEW[op.name]:
        return target == 80 and dtype != "bfloat16"
    return target not in (86, 89) or name == FEW[op.name][0]


def keeps_the_law(op: OpSpec, number: int, dtype: str, target: int) -> None:
    case = tolerances.exact_in(tolerances.cases(op)[number], op, dtype)
    try:
        found = emulate(op, case, dtype, target)
    except UnknownInstructionError as error:
        if target == 100 and "opcode tcgen05" in str(error):
            pytest.skip(
                "the emulator does not know tcgen05, by which sm_100 multiplies these tiles"
            )
        raise
    tolerances.check(op, case, dtype, found)


@pytest.mark.parametrize(("op", "number", "dtype", "target"), list(combinations()))
def test_emulated_ptx_keeps_the_law(op: OpSpec, number: int, dtype: str, target: int) -> None:
    keeps_the_law(op, number, dtype, target)


LARGE = {
    "LshBucket": ("b1-l160-h1-d128-r2-f512-full",),
    "SortedChunkAttention": (
        "b1-l384-h1-d128-r2-n16-c128-look1.0-causal-ragged",
        "b1-l192-h1-d72-r2-n16-c64-look1.0-causal-ragged",
    ),
    "ChunkAttention": (
        "b1-l256-h2-d64-c64-look1.0-causal-full",
        "b1-l256-h1-d128-c128-look1.0-causal-ragged",
    ),
}
"""Cases with the tile sizes of real models."""


def large() -> Iterator[Any]:
    """Every type on sm_90, whose tiles differ, and one type on the other targets."""
    for op in OPS:
        for name in LARGE[op.name]:
            for target in TARGETS:
                for dtype in DTYPES if target == 90 else ("float16",):
                    case_id = f"{op.name}-{name}-{dtype}-sm{target}"
                    yield pytest.param(op, numbers(op)[name], dtype, target, id=case_id)


@pytest.mark.slow
@pytest.mark.parametrize(("op", "number", "dtype", "target"), list(large()))
def test_emulated_ptx_of_published_sizes_keeps_the_law(
    op: OpSpec, number: int, dtype: str, target: int
) -> None:
    keeps_the_law(op, number, dtype, target)


@pytest.mark.parametrize(
    ("length", "num_buckets"),
    [(1, 1), (129, 4), (300, 1025), pytest.param(5000, 3, marks=pytest.mark.slow)],
)
def test_emulated_sort_equals_a_stable_sort(length: int, num_buckets: int) -> None:
    """One pass or two; several segments; all tokens of a row in one bucket."""
    rng = np.random.default_rng(length)
    buckets = rng.integers(0, num_buckets + 1, (2, 1, 2, length)).astype(np.int32)
    buckets[0, 0, 0] = num_buckets
    order = sort(buckets, num_buckets, 80)
    assert (order == np.argsort(buckets, axis=-1, kind="stable")).all()
