"""The sums of the rounds' gradients in Triton, and the gradient through the norm of the keys."""

import math
from functools import cache

import triton
import triton.language as tl

from reformer_ops.triton.attention import key_scale
from reformer_ops.triton.launch import Argument, Grid, Launch, padded, triton_type

_ELEMENTS = 1024
"""Elements of a program's tile."""


@triton.jit(do_not_specialize=["length"])
def combine_gradients_kernel(
    query_key,
    as_query,
    as_key,
    value_parts,
    length,
    query_key_gradient,
    value_gradient,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_HASHES: tl.constexpr,
    CHUNK_LENGTH: tl.constexpr,
    ROOT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program computes BLOCK_M rows; tokens and heads are one axis of rows here.

    query_key                           [batch, length, HEADS, HEAD_DIM]
    as_query, as_key, value_parts       [batch, NUM_HASHES, length, HEADS, HEAD_DIM] fp32; as_key is
                                        the gradient of the normalised key
    query_key_gradient, value_gradient  [batch, length, HEADS, HEAD_DIM]

    A short sequence has only round 0.
    """
    rows = length * HEADS
    tiles = tl.cdiv(rows, BLOCK_M)
    program = tl.program_id(0)
    sequence = (program // tiles).to(tl.int64)
    row = program % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    element = row.to(tl.int64)[:, None] * HEAD_DIM + tl.arange(0, BLOCK_D)[None, :]
    inside = (row < rows)[:, None] & (tl.arange(0, BLOCK_D) < HEAD_DIM)[None, :]
    rounds = tl.where(length > CHUNK_LENGTH, NUM_HASHES, 1)

    query = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    key = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    value = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for number in range(rounds):
        part = (sequence * NUM_HASHES + number) * rows * HEAD_DIM + element
        query += tl.load(as_query + part, mask=inside, other=0.0)
        key += tl.load(as_key + part, mask=inside, other=0.0)
        value += tl.load(value_parts + part, mask=inside, other=0.0)

    place = sequence * rows * HEAD_DIM + element
    given = tl.load(query_key + place, mask=inside, other=0.0).to(tl.float32)
    scale = key_scale(tl.sum(given * given, axis=1), HEAD_DIM, ROOT)[:, None]
    key = key * scale
    # The component of a gradient along its key has no effect, because keys are normalised.
    along = tl.sum(key * given, axis=1)[:, None] * scale * scale
    total = query + key - given * along
    tl.store(query_key_gradient + place, total.to(query_key_gradient.dtype.element_ty), mask=inside)
    tl.store(value_gradient + place, value.to(value_gradient.dtype.element_ty), mask=inside)


@cache
def combine_gradients(
    *, dtype: str, heads: int, head_dim: int, num_hashes: int, chunk_length: int
) -> Launch:
    """The launch for one model type ("float32", "float16", "bfloat16") and shape."""
    element = triton_type(dtype)
    width = padded(head_dim)
    block = max(1, _ELEMENTS // width)
    return Launch(
        kernel=combine_gradients_kernel,
        inputs=(
            Argument("query_key", f"*{element}"),
            *(Argument(name, "*fp32") for name in ("as_query", "as_key", "value_parts")),
        ),
        outputs=(
            Argument("query_key_gradient", f"*{element}"),
            Argument("value_gradient", f"*{element}"),
        ),
        constants={
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "NUM_HASHES": num_hashes,
            "CHUNK_LENGTH": chunk_length,
            "ROOT": math.sqrt(head_dim),
            "BLOCK_M": block,
            "BLOCK_D": width,
        },
        grid=Grid(times=1, multiplier=heads, divisor=block),
        num_warps=4,
        num_stages=1,
        max_registers=128,
    )
