"""Attention of every round in Triton: sorted chunks in, output and logsumexp of each round out."""

import math
from functools import cache

import triton
import triton.language as tl

from reformer_ops.attention_masks import KEY_NORM_EPSILON, SELF
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

_SELF = tl.constexpr(SELF)
_EPSILON = tl.constexpr(KEY_NORM_EPSILON)


@triton.jit(do_not_specialize=["length"])
def attend_rounds_kernel(
    query_key,
    value,
    order,
    mask,
    length,
    outputs,
    lse,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_HASHES: tl.constexpr,
    CHUNK_LENGTH: tl.constexpr,
    CHUNKS_BEFORE: tl.constexpr,
    CHUNKS_AFTER: tl.constexpr,
    CAUSAL: tl.constexpr,
    ROOT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A program has BLOCK_M queries of one chunk and goes over the keys of the chunks they see.

    query_key, value  [batch, length, HEADS, HEAD_DIM]
    order             [batch, HEADS, NUM_HASHES, length] i32: positions, sorted; not read if short
    mask              [batch, length] u8
    outputs           [batch, NUM_HASHES, length, HEADS, HEAD_DIM], in the order of the sequence
    lse               [batch, NUM_HASHES, length, HEADS] fp32

    The sort is undone by storing each row where its query stands. With one round `outputs` is the
    operator's output. Of a short sequence round 0 is written and no other.
    """
    tiles: tl.constexpr = (CHUNK_LENGTH + BLOCK_M - 1) // BLOCK_M
    chunks_a_round = tl.cdiv(length, CHUNK_LENGTH)
    ring = NUM_HASHES * chunks_a_round
    program = tl.program_id(0)
    tile = program % tiles
    chunk = program // tiles % ring
    row = program // tiles // ring  # of the sequences' heads

    is_sorted = length > CHUNK_LENGTH
    in_order = tl.where(is_sorted, NUM_HASHES * length, 0)
    chunks = tl.where(is_sorted, ring, 1)
    size = tl.minimum(length, CHUNK_LENGTH)
    before = tl.where(is_sorted, CHUNKS_BEFORE, 0)
    window = tl.where(is_sorted, (CHUNKS_BEFORE + 1 + CHUNKS_AFTER) * CHUNK_LENGTH, length)
    if (chunk >= chunks) | (tile * BLOCK_M >= size):
        return

    sequence = (row // HEADS).to(tl.int64)
    head = row % HEADS
    order += row.to(tl.int64) * NUM_HASHES * length
    mask += sequence * length
    query_key += (sequence * length * HEADS + head) * HEAD_DIM
    value += (sequence * length * HEADS + head) * HEAD_DIM

    place = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    asked = place < size
    slot = chunk * CHUNK_LENGTH + place
    query_position = tl.load(order + slot, mask=slot < in_order, other=0)
    query_position = tl.where(is_sorted, query_position, slot)
    queries = load_rows(query_key, query_position, asked, 0, HEADS, HEAD_DIM, BLOCK_D)

    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    output = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for start in range(0, window, BLOCK_N):
        key_slot, present = key_slots(start, window, chunk, chunks, before, CHUNK_LENGTH, BLOCK_N)
        position = tl.load(order + key_slot, mask=key_slot < in_order, other=0)
        position = tl.where(is_sorted, position, key_slot)
        valid = tl.load(mask + position, mask=present, other=0) != 0
        scores, squares = multiply(
            query_key,
            query_position,
            asked,
            queries,
            query_key,
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
        # Normalising a key is scaling its column of the scores: so keys go to the tensor cores as
        # they are, unrounded, and fp32 sums hold what fp16 would not. Rounded division and root:
        # they are one a key, and large scores show every bit of them.
        norm = tl.sqrt_rn(tl.div_rn(squares, 1.0 * HEAD_DIM) + _EPSILON) * ROOT
        scores = scores * tl.div_rn(1.0, norm)[None, :]
        scores = hide(scores, query_position, position, valid, present, CAUSAL)
        own = tl.where(present, position, -1)
        scores = tl.where(query_position[:, None] == own[None, :], _SELF, scores)
        values = load_rows(value, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
        if WIDE:
            values = values.to(tl.float32)
        top, total, output = attend(scores, values, top, total, output)
    output, found = finish(top, total, output)

    hash_round = tl.where(is_sorted, chunk // chunks_a_round, 0)
    first_row = (sequence * NUM_HASHES + hash_round) * length * HEADS + head
    tl.store(lse + first_row + query_position.to(tl.int64) * HEADS, found, mask=asked)
    tl.store(
        outputs + first_row * HEAD_DIM + row_offsets(query_position, 0, HEADS, HEAD_DIM, BLOCK_D),
        output.to(outputs.dtype.element_ty),
        mask=row_mask(asked, 0, HEAD_DIM, BLOCK_D),
    )


@cache
def attend_rounds(
    *,
    dtype: str,
    heads: int,
    head_dim: int,
    num_hashes: int,
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
        kernel=attend_rounds_kernel,
        inputs=(
            Argument("query_key", f"*{element}"),
            Argument("value", f"*{element}"),
            Argument("order", "*i32"),
            Argument("mask", "*u8"),
        ),
        outputs=(Argument("outputs", f"*{element}"), Argument("lse", "*fp32")),
        constants={
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "NUM_HASHES": num_hashes,
            "CHUNK_LENGTH": chunk_length,
            "CHUNKS_BEFORE": num_chunks_before,
            "CHUNKS_AFTER": num_chunks_after,
            "CAUSAL": causal,
            "ROOT": math.sqrt(head_dim),
            **tile.constants(head_dim),
        },
        grid=Grid(
            times=heads * num_hashes * -(-chunk_length // tile.queries), divisor=chunk_length
        ),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        max_registers=tile.max_registers,
    )
