"""Attention of every round in Triton: output and logsumexp of each round, from sorted chunks."""

import math
from functools import cache

import triton
import triton.language as tl

from reformer_ops.core.attention_masks import SELF
from reformer_ops.triton.attention import (
    attend,
    finish,
    hide,
    hide_by_code,
    key_codes,
    key_scale,
    key_slots,
    load_rows,
    multiply,
    position_of,
    row_mask,
    row_offsets,
    tile_slots,
    without_absent,
)
from reformer_ops.triton.dropout import dropout_constants, dropout_factors, row_keys
from reformer_ops.triton.launch import Argument, Grid, Launch, padded, triton_type
from reformer_ops.triton.tiles import attention_tile

_SELF = tl.constexpr(SELF)

_DESCRIBED = 64
"""Slots that one program of `describe_keys` processes."""


@triton.jit(do_not_specialize=["length"])
def attend_rounds_kernel(
    query_key,
    value,
    order,
    mask,
    codes,
    scales,
    seed,
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
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
    THRESHOLD: tl.constexpr,
    FACTOR: tl.constexpr,
):
    """A program has BLOCK_M queries of one chunk and iterates over the keys of the chunks they see.

    query_key, value  [batch, length, HEADS, HEAD_DIM]
    order             [batch, HEADS, NUM_HASHES, length] i32: sorted positions; not read if short
    mask              [batch, length] u8
    codes, scales     [batch, HEADS, NUM_HASHES, length] i32, fp32: outputs of `describe_keys` (then
                      order and mask are None), or None
    seed              i64, or None without dropout
    outputs           [batch, NUM_HASHES, length, HEADS, HEAD_DIM], in the order of the sequence
    lse               [batch, NUM_HASHES, length, HEADS] fp32

    To undo the sort, each row is stored at the position of its query. With one round `outputs` is
    the operator's output. For a short sequence only round 0 is written.
    """
    tiles: tl.constexpr = (CHUNK_LENGTH + BLOCK_M - 1) // BLOCK_M
    chunks_a_round = tl.cdiv(length, CHUNK_LENGTH)
    ring = NUM_HASHES * chunks_a_round
    program = tl.program_id(0)
    tile = program % tiles
    chunk = program // tiles % ring
    row = program // tiles // ring  # among all heads of all sequences
    rows = tl.num_programs(0) // tiles // ring
    round_slots = chunks_a_round * CHUNK_LENGTH

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
    first_slot = row.to(tl.int64) * NUM_HASHES * length
    if codes is None:
        order += first_slot
        mask += sequence * length
    else:
        codes += first_slot
        scales += first_slot
    query_key += (sequence * length * HEADS + head) * HEAD_DIM
    value += (sequence * length * HEADS + head) * HEAD_DIM

    place = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    asked = place < size
    slot = chunk * CHUNK_LENGTH + place
    if codes is None:
        query_position = tl.load(order + slot, mask=slot < in_order, other=0)
        query_position = tl.where(is_sorted, query_position, slot)
        query_valid = tl.load(mask + query_position, mask=asked, other=0) != 0
        query_code = key_codes(query_position, query_valid, asked)
    else:
        query_code = tl.load(codes + slot, mask=asked, other=0)
        query_position = position_of(query_code)

    hash_round = tl.where(is_sorted, chunk // chunks_a_round, 0)
    if THRESHOLD > 0:
        first = (hash_round * rows + row).to(tl.int64) * length
        row_key = row_keys(tl.load(seed), first + query_position)

    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    output = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    if WIDE:
        for start in range(0, window, BLOCK_N):
            key_slot, present = key_slots(
                start, window, chunk, chunks, before, CHUNK_LENGTH, BLOCK_N
            )
            position = tl.load(order + key_slot, mask=key_slot < in_order, other=0)
            position = tl.where(is_sorted, position, key_slot)
            valid = tl.load(mask + position, mask=present, other=0) != 0
            scores, squares = multiply(
                query_key, query_position, asked, query_key, position, present,
                HEADS, HEAD_DIM, BLOCK_M, BLOCK_N, BLOCK_K,
            )  # fmt: skip
            scores = scores * key_scale(squares, HEAD_DIM, ROOT)[None, :]
            scores = hide(scores, query_position, position, valid, present, CAUSAL)
            own = tl.where(present, position, -1)
            scores = tl.where(query_position[:, None] == own[None, :], _SELF, scores)
            values = load_rows(value, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
            dropped = None
            if THRESHOLD > 0:
                columns = key_slot // round_slots * length + position
                dropped = dropout_factors(row_key, columns, THRESHOLD, FACTOR)
            top, total, output = attend(
                scores, values.to(tl.float32), dropped, top, total, output, PRECISION
            )
    else:
        queries = load_rows(query_key, query_position, asked, 0, HEADS, HEAD_DIM, BLOCK_D)
        for start in tl.range(0, window, BLOCK_N, num_stages=STAGES):
            key_slot = tile_slots(start, chunk, chunks, before, CHUNK_LENGTH, BLOCK_N)
            present = start + tl.arange(0, BLOCK_N) < window
            if codes is None:
                position = tl.load(order + key_slot, mask=key_slot < in_order, other=0)
                position = tl.where(is_sorted, position, key_slot)
                valid = tl.load(mask + position, mask=present, other=0) != 0
                code = key_codes(position, valid, present)
            else:
                code = tl.load(codes + key_slot, mask=present, other=-1)
                scale = tl.load(scales + key_slot, mask=present, other=1.0)
                position = position_of(tl.load(codes + key_slot, mask=present, other=0))
            keys = load_rows(query_key, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
            values = load_rows(value, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
            if codes is None:
                wide = keys.to(tl.float32)
                scale = key_scale(tl.sum(wide * wide, axis=1), HEAD_DIM, ROOT)
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale[None, :]
            scores = hide_by_code(scores, query_position, query_code, code, CAUSAL, True)
            dropped = None
            if THRESHOLD > 0:
                columns = key_slot // round_slots * length + position
                dropped = dropout_factors(row_key, columns, THRESHOLD, FACTOR)
            top, total, output = attend(scores, values, dropped, top, total, output, PRECISION)
        total = without_absent(top, total, window, BLOCK_N)
    output, found = finish(top, total, output)

    first_row = (sequence * NUM_HASHES + hash_round) * length * HEADS + head
    tl.store(lse + first_row + query_position.to(tl.int64) * HEADS, found, mask=asked)
    tl.store(
        outputs + first_row * HEAD_DIM + row_offsets(query_position, 0, HEADS, HEAD_DIM, BLOCK_D),
        output.to(outputs.dtype.element_ty),
        mask=row_mask(asked, 0, HEAD_DIM, BLOCK_D),
    )


@triton.jit(do_not_specialize=["length"])
def describe_keys_kernel(
    query_key,
    order,
    mask,
    length,
    codes,
    scales,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_HASHES: tl.constexpr,
    CHUNK_LENGTH: tl.constexpr,
    ROOT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program describes BLOCK_M keys of one head, in the order of the sort.

    query_key, order, mask  as above
    codes   [batch, HEADS, NUM_HASHES, length] i32: see `key_codes`
    scales  [batch, HEADS, NUM_HASHES, length] fp32: see `key_scale`

    Queries of several chunks read a key, and each would gather its position, mask and norm again. A
    short sequence has only round 0.
    """
    tiles = tl.cdiv(NUM_HASHES * length, BLOCK_M)
    program = tl.program_id(0)
    tile = program % tiles
    row = program // tiles  # among all heads of all sequences
    sequence = (row // HEADS).to(tl.int64)
    head = row % HEADS
    is_sorted = length > CHUNK_LENGTH
    slot = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    in_order = tl.where(is_sorted, NUM_HASHES * length, 0)
    present = slot < tl.where(is_sorted, NUM_HASHES * length, length)
    first_slot = row.to(tl.int64) * NUM_HASHES * length
    position = tl.load(order + first_slot + slot, mask=slot < in_order, other=0)
    position = tl.where(is_sorted, position, slot)
    valid = tl.load(mask + sequence * length + position, mask=present, other=0) != 0
    query_key += (sequence * length * HEADS + head) * HEAD_DIM
    keys = load_rows(query_key, position, present, 0, HEADS, HEAD_DIM, BLOCK_D).to(tl.float32)
    scale = key_scale(tl.sum(keys * keys, axis=1), HEAD_DIM, ROOT)
    tl.store(codes + first_slot + slot, key_codes(position, valid, present), mask=present)
    tl.store(scales + first_slot + slot, scale, mask=present)


@cache
def describe_keys(
    *, dtype: str, heads: int, head_dim: int, num_hashes: int, chunk_length: int
) -> Launch:
    """The launch for one model type ("float16", "bfloat16") and shape."""
    return Launch(
        kernel=describe_keys_kernel,
        inputs=(
            Argument("query_key", f"*{triton_type(dtype)}"),
            Argument("order", "*i32"),
            Argument("mask", "*u8"),
        ),
        outputs=(Argument("codes", "*i32"), Argument("scales", "*fp32")),
        constants={
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "NUM_HASHES": num_hashes,
            "CHUNK_LENGTH": chunk_length,
            "ROOT": math.sqrt(head_dim),
            "BLOCK_M": _DESCRIBED,
            "BLOCK_D": padded(head_dim),
        },
        grid=Grid(times=heads, multiplier=num_hashes, divisor=_DESCRIBED),
        num_warps=4,
        num_stages=1,
        max_registers=255,
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
    described: bool = False,
    dropout: float = 0.0,
) -> Launch:
    """The launch for one model type ("float32", "float16", "bfloat16"), shape and GPU.

    With `described` its inputs are the outputs of `describe_keys` instead of order and mask.
    """
    element = triton_type(dtype)
    tile = attention_tile(dtype, head_dim, chunk_length, target, is_sorted=True)
    plain = (Argument("order", "*i32"), Argument("mask", "*u8"))
    described_inputs = (Argument("codes", "*i32"), Argument("scales", "*fp32"))
    absent = plain if described else described_inputs
    seed = (Argument("seed", "*i64"),) if dropout else ()
    return Launch(
        kernel=attend_rounds_kernel,
        inputs=(
            Argument("query_key", f"*{element}"),
            Argument("value", f"*{element}"),
            *(described_inputs if described else plain),
            *seed,
        ),
        outputs=(Argument("outputs", f"*{element}"), Argument("lse", "*fp32")),
        constants={
            **{argument.name: None for argument in absent},
            **({} if seed else {"seed": None}),
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "NUM_HASHES": num_hashes,
            "CHUNK_LENGTH": chunk_length,
            "CHUNKS_BEFORE": num_chunks_before,
            "CHUNKS_AFTER": num_chunks_after,
            "CAUSAL": causal,
            "ROOT": math.sqrt(head_dim),
            **tile.constants(head_dim),
            **dropout_constants(dropout),
        },
        grid=Grid(
            times=heads * num_hashes * -(-chunk_length // tile.queries), divisor=chunk_length
        ),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        max_registers=tile.max_registers,
    )
