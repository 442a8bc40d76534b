"""`ChunkAttention` in Triton: attention within a window of the sequence, in one launch."""

import math
from functools import cache

import triton
import triton.language as tl

from reformer_ops.triton.attention import (
    attend,
    finish,
    hide,
    hide_by_code,
    key_codes,
    key_slots,
    load_rows,
    multiply,
    row_mask,
    row_offsets,
    tile_slots,
    without_absent,
)
from reformer_ops.triton.dropout import dropout_constants, dropout_factors, row_keys
from reformer_ops.triton.launch import Argument, Grid, Launch, triton_type
from reformer_ops.triton.tiles import attention_tile


@triton.jit(do_not_specialize=["length"])
def chunk_attention_kernel(
    query,
    key,
    value,
    mask,
    seed,
    length,
    output,
    lse,
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
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
    THRESHOLD: tl.constexpr,
    FACTOR: tl.constexpr,
):
    """A program computes BLOCK_M queries of one chunk, in a loop over the keys that they see.

    query, key, value, output  [batch, length, HEADS, HEAD_DIM]
    mask                       [batch, length] u8
    seed                       i64, or None without dropout
    lse                        [batch, HEADS, length] fp32, or None

    Keys in the future of all queries of a program are not skipped: if a query sees no other key,
    they are in its sum (docs/ops.md, "Masked and absent").
    """
    tiles: tl.constexpr = (CHUNK_LENGTH + BLOCK_M - 1) // BLOCK_M
    chunks = tl.cdiv(length, CHUNK_LENGTH)
    program = tl.program_id(0)
    tile = program % tiles
    chunk = program // tiles % chunks
    row = program // tiles // chunks  # index of sequence and head

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
    if THRESHOLD > 0:
        row_key = row_keys(tl.load(seed), row.to(tl.int64) * length + query_position)

    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    if WIDE:
        for start in range(0, window, BLOCK_N):
            position, present = key_slots(
                start, window, chunk, chunks, before, CHUNK_LENGTH, BLOCK_N
            )
            valid = tl.load(mask + position, mask=present, other=0) != 0
            scores, _ = multiply(
                query, query_position, asked, key, position, present,
                HEADS, HEAD_DIM, BLOCK_M, BLOCK_N, BLOCK_K,
            )  # fmt: skip
            scores = hide(scores * SCALE, query_position, position, valid, present, CAUSAL)
            values = load_rows(value, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
            dropped = None
            if THRESHOLD > 0:
                dropped = dropout_factors(row_key, position, THRESHOLD, FACTOR)
            top, total, sums = attend(
                scores, values.to(tl.float32), dropped, top, total, sums, PRECISION
            )
    else:
        queries = load_rows(query, query_position, asked, 0, HEADS, HEAD_DIM, BLOCK_D)
        for start in tl.range(0, window, BLOCK_N, num_stages=STAGES):
            position = tile_slots(start, chunk, chunks, before, CHUNK_LENGTH, BLOCK_N)
            present = start + tl.arange(0, BLOCK_N) < window
            valid = tl.load(mask + position, mask=present, other=0) != 0
            code = key_codes(position, valid, present)
            keys = load_rows(key, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * SCALE
            scores = hide_by_code(scores, query_position, query_position, code, CAUSAL, False)
            values = load_rows(value, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
            dropped = None
            if THRESHOLD > 0:
                dropped = dropout_factors(row_key, position, THRESHOLD, FACTOR)
            top, total, sums = attend(scores, values, dropped, top, total, sums, PRECISION)
        total = without_absent(top, total, window, BLOCK_N)
    sums, found = finish(top, total, sums)
    if lse is not None:
        tl.store(lse + row.to(tl.int64) * length + query_position, found, mask=asked)
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
    trains: bool = False,
    dropout: float = 0.0,
) -> Launch:
    """The launch for one model type ("float32", "float16", "bfloat16"), shape and GPU.

    If it `trains`, it also writes the logsumexps.
    """
    element = triton_type(dtype)
    seed = (Argument("seed", "*i64"),) if dropout else ()
    lse = (Argument("lse", "*fp32"),) if trains else ()
    tile = attention_tile(dtype, head_dim, chunk_length, target, is_sorted=False)
    return Launch(
        kernel=chunk_attention_kernel,
        inputs=(
            Argument("query", f"*{element}"),
            Argument("key", f"*{element}"),
            Argument("value", f"*{element}"),
            Argument("mask", "*u8"),
            *seed,
        ),
        outputs=(Argument("output", f"*{element}"), *lse),
        constants={
            **({} if seed else {"seed": None}),
            **({} if lse else {"lse": None}),
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "CHUNK_LENGTH": chunk_length,
            "CHUNKS_BEFORE": num_chunks_before,
            "CHUNKS_AFTER": num_chunks_after,
            "CAUSAL": causal,
            "SCALE": 1.0 / math.sqrt(head_dim),
            **tile.constants(head_dim),
            **dropout_constants(dropout),
        },
        grid=Grid(times=heads * -(-chunk_length // tile.queries), divisor=chunk_length),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        max_registers=tile.max_registers,
    )
