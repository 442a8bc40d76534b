"""`ChunkAttention` in Triton: attention within a window of the sequence, in one launch."""

import math
from functools import cache

import triton
import triton.language as tl

from reformer_ops.triton_attention import (
    attend,
    finish,
    hide,
    key_slots,
    load_rows,
    multiply,
    row_mask,
    row_offsets,
)
from reformer_ops.triton_launch import Argument, Grid, Launch, attention_tile, triton_type


@triton.jit(do_not_specialize=["length"])
def chunk_attention_kernel(
    query,
    key,
    value,
    mask,
    length,
    output,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    CHUNK_LENGTH: tl.constexpr,
    CHUNKS_BEFORE: tl.constexpr,
    CHUNKS_AFTER: tl.constexpr,
    CAUSAL: tl.constexpr,
    SCALE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A program has BLOCK_M queries of one chunk and goes over the keys of the chunks they see.

    query, key, value, output  [batch, length, HEADS, HEAD_DIM]
    mask                       [batch, length] u8

    Keys in the future of all of a program's queries are not skipped: where a query finds nothing
    else, they are in its sum (docs/ops.md, "Masked and absent").
    """
    tiles: tl.constexpr = (CHUNK_LENGTH + BLOCK_M - 1) // BLOCK_M
    chunks = tl.cdiv(length, CHUNK_LENGTH)
    program = tl.program_id(0)
    tile = program % tiles
    chunk = program // tiles % chunks
    row = program // tiles // chunks  # of the sequences' heads

    has_neighbours = length > CHUNK_LENGTH
    size = tl.minimum(length, CHUNK_LENGTH)
    before = tl.where(has_neighbours, CHUNKS_BEFORE, 0)
    window = tl.where(has_neighbours, (CHUNKS_BEFORE + 1 + CHUNKS_AFTER) * CHUNK_LENGTH, length)
    if tile * BLOCK_M >= size:
        return

    sequence = (row // HEADS).to(tl.int64)
    first_row = sequence * length * HEADS + row % HEADS
    mask += sequence * length
    query += first_row * HEAD_DIM
    key += first_row * HEAD_DIM
    value += first_row * HEAD_DIM
    output += first_row * HEAD_DIM

    place = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    asked = place < size
    query_position = chunk * CHUNK_LENGTH + place
    queries = load_rows(query, query_position, asked, 0, HEADS, HEAD_DIM, BLOCK_D)

    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for start in range(0, window, BLOCK_N):
        position, present = key_slots(start, window, chunk, chunks, before, CHUNK_LENGTH, BLOCK_N)
        valid = tl.load(mask + position, mask=present, other=0) != 0
        scores, _ = multiply(
            query,
            query_position,
            asked,
            queries,
            key,
            position,
            present,
            HEADS,
            HEAD_DIM,
            BLOCK_M,
            BLOCK_N,
            BLOCK_D,
            BLOCK_K,
            WIDE,
        )
        scores = scores * SCALE
        scores = hide(scores, query_position, position, valid, present, CAUSAL)
        values = load_rows(value, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
        if WIDE:
            values = values.to(tl.float32)
        top, total, sums = attend(scores, values, top, total, sums)
    sums, _ = finish(top, total, sums)
    tl.store(
        output + row_offsets(query_position, 0, HEADS, HEAD_DIM, BLOCK_D),
        sums.to(output.dtype.element_ty),
        mask=row_mask(asked, 0, HEAD_DIM, BLOCK_D),
    )


@cache
def chunk_attention(
    *,
    dtype: str,
    heads: int,
    head_dim: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    target: int,
) -> Launch:
    """The launch for one model type ("float32", "float16", "bfloat16"), shape and GPU."""
    element = triton_type(dtype)
    tile = attention_tile(dtype, head_dim, chunk_length, target)
    return Launch(
        kernel=chunk_attention_kernel,
        inputs=(
            Argument("query", f"*{element}"),
            Argument("key", f"*{element}"),
            Argument("value", f"*{element}"),
            Argument("mask", "*u8"),
        ),
        outputs=(Argument("output", f"*{element}"),),
        constants={
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "CHUNK_LENGTH": chunk_length,
            "CHUNKS_BEFORE": num_chunks_before,
            "CHUNKS_AFTER": num_chunks_after,
            "CAUSAL": causal,
            "SCALE": 1.0 / math.sqrt(head_dim),
            **tile.constants(head_dim),
        },
        grid=Grid(times=heads * -(-chunk_length // tile.queries), divisor=chunk_length),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        max_registers=tile.max_registers,
    )
