"""The weighted sum over rounds in Triton; weights are a softmax over the rounds' logsumexps."""

from functools import cache

import triton
import triton.language as tl

from reformer_ops.triton.launch import Argument, Grid, Launch, padded, triton_type

_ELEMENTS = 1024
"""Elements of a program's tile: 8 loads per thread at a time; more would spill for padded rows."""


@triton.jit(do_not_specialize=["length"])
def combine_rounds_kernel(
    outputs,
    lse,
    length,
    output,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_HASHES: tl.constexpr,
    CHUNK_LENGTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program computes BLOCK_M rows of the output; tokens and heads are one axis of rows here.

    outputs  [batch, NUM_HASHES, length, HEADS, HEAD_DIM]
    lse      [batch, NUM_HASHES, length, HEADS] fp32
    output   [batch, length, HEADS, HEAD_DIM]

    The kernel is bound by memory: it reads every element once, in order. A short sequence has only
    round 0. The logsumexps are read twice, because their own logsumexp must be rounded before it is
    used.
    """
    rows = length * HEADS
    tiles = tl.cdiv(rows, BLOCK_M)
    program = tl.program_id(0)
    sequence = (program // tiles).to(tl.int64)
    row = program % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    present = row < rows
    element = row.to(tl.int64)[:, None] * HEAD_DIM + tl.arange(0, BLOCK_D)[None, :]
    inside = present[:, None] & (tl.arange(0, BLOCK_D) < HEAD_DIM)[None, :]
    rounds = tl.where(length > CHUNK_LENGTH, NUM_HASHES, 1)

    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    for number in range(rounds):
        first = (sequence * NUM_HASHES + number) * rows
        found = tl.load(lse + first + row, mask=present, other=0.0)
        new_top = tl.maximum(top, found)
        total = total * tl.exp(top - new_top) + tl.exp(found - new_top)
        top = new_top
    all_rounds = top + tl.log(total)
    sums = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for number in range(rounds):
        first = (sequence * NUM_HASHES + number) * rows
        share = tl.exp(tl.load(lse + first + row, mask=present, other=0.0) - all_rounds)
        part = tl.load(outputs + first * HEAD_DIM + element, mask=inside, other=0.0)
        sums += share[:, None] * part.to(tl.float32)
    tl.store(
        output + sequence * rows * HEAD_DIM + element,
        sums.to(output.dtype.element_ty),
        mask=inside,
    )


@cache
def combine_rounds(
    *, dtype: str, heads: int, head_dim: int, num_hashes: int, chunk_length: int
) -> Launch:
    """The launch for one model type ("float32", "float16", "bfloat16") and shape."""
    element = triton_type(dtype)
    width = padded(head_dim)
    block = max(1, _ELEMENTS // width)
    return Launch(
        kernel=combine_rounds_kernel,
        inputs=(Argument("outputs", f"*{element}"), Argument("lse", "*fp32")),
        outputs=(Argument("output", f"*{element}"),),
        constants={
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "NUM_HASHES": num_hashes,
            "CHUNK_LENGTH": chunk_length,
            "BLOCK_M": block,
            "BLOCK_D": width,
        },
        grid=Grid(times=1, multiplier=heads, divisor=block),
        num_warps=4,
        num_stages=1,
        max_registers=128,
    )
