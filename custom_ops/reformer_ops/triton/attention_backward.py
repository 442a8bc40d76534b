"""The gradients of both attentions in Triton: one kernel for queries, one for keys and values.

`lse` and `delta` of a query are those of all rounds: `delta` is `gradient . output`. docs/ops.md
has the formulas. Every program writes its own part of the results, so the same inputs give the same
bits.
"""

import math
from functools import cache

import triton
import triton.language as tl

from reformer_ops.triton.attention import (
    hide_by_code,
    key_codes,
    key_scale,
    key_slots,
    load_rows,
    multiply,
    row_mask,
    row_offsets,
)
from reformer_ops.triton.dropout import dropout_constants, dropout_factors, row_keys
from reformer_ops.triton.launch import Argument, Grid, Launch, triton_type
from reformer_ops.triton.tiles import backward_tile


@triton.jit
def _place(length, NUM_HASHES: tl.constexpr, CHUNK_LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """(tile, chunk, row, rows): the tile of BLOCK slots of a chunk that a program has.

    `row` is the place of the head among all heads of all sequences, of which there are `rows`.
    """
    tiles: tl.constexpr = (CHUNK_LENGTH + BLOCK - 1) // BLOCK
    ring = NUM_HASHES * tl.cdiv(length, CHUNK_LENGTH)
    program = tl.program_id(0)
    rows = tl.num_programs(0) // tiles // ring
    return program % tiles, program // tiles % ring, program // tiles // ring, rows


@triton.jit
def _extent(
    length, NUM_HASHES: tl.constexpr, CHUNK_LENGTH: tl.constexpr,
    BEFORE: tl.constexpr, AFTER: tl.constexpr,
):  # fmt: skip
    """(chunks, in_order, size, before, window) for a length.

    There are `chunks` of `size` slots, in a ring. A chunk and its neighbours, the first of which is
    `before` places before it, have `window` slots. `in_order` is the number of slots whose position
    is in the order; a short sequence is one chunk without neighbours, in its own order.
    """
    has_neighbours = length > CHUNK_LENGTH
    chunks = tl.where(has_neighbours, NUM_HASHES * tl.cdiv(length, CHUNK_LENGTH), 1)
    in_order = tl.where(has_neighbours, NUM_HASHES * length, 0)
    size = tl.minimum(length, CHUNK_LENGTH)
    before = tl.where(has_neighbours, BEFORE, 0)
    window = tl.where(has_neighbours, (BEFORE + 1 + AFTER) * CHUNK_LENGTH, length)
    return chunks, in_order, size, before, window


@triton.jit
def _of_row(
    query, key, value, gradient, mask, lse, delta, row, length,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
):  # fmt: skip
    """The first seven arguments at the beginning of a head of a sequence."""
    sequence = (row // HEADS).to(tl.int64)
    first = (sequence * length * HEADS + row % HEADS) * HEAD_DIM
    of_row = row.to(tl.int64) * length
    mask += sequence * length
    query, key, value = query + first, key + first, value + first
    return query, key, value, gradient + first, mask, lse + of_row, delta + of_row


@triton.jit
def _first_result(row, hash_round, length, HEADS: tl.constexpr, NUM_HASHES: tl.constexpr):
    """The row `[batch, NUM_HASHES, length, HEADS]` of the first position of a round."""
    sequence = (row // HEADS).to(tl.int64)
    return (sequence * NUM_HASHES + hash_round) * length * HEADS + row % HEADS


@triton.jit
def _positions(order, slots, in_order):
    """The positions of slots. `in_order` is 0 for a short sequence, whose order is not read."""
    if order is None:
        position = slots
    else:
        position = tl.load(order + slots, mask=slots < in_order, other=0)
        position = tl.where(in_order > 0, position, slots)
    return position


@triton.jit
def _scores(
    query, query_position, asked, queries, key, key_position, present, keys,
    SORTED: tl.constexpr, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, ROOT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(scores, the factor of each key), rounded as in the forward pass."""
    if WIDE:
        products, squares = multiply(
            query, query_position, asked, key, key_position, present,
            HEADS, HEAD_DIM, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    else:
        products = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
        wide = keys.to(tl.float32)
        squares = tl.sum(wide * wide, axis=1)
    if SORTED:
        scale = key_scale(squares, HEAD_DIM, ROOT)
    else:
        scale = tl.full((BLOCK_N,), 1.0 / ROOT, tl.float32)
    return products * scale[None, :], scale


@triton.jit
def _gradients_of_scores(
    scores, values, gradients, lse, delta, query_position, query_code, key_code, row_key, columns,
    CAUSAL: tl.constexpr, OWN: tl.constexpr, PRECISION: tl.constexpr,
    THRESHOLD: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """(weights after dropout, gradients of the scores), both `[queries, keys]` fp32.

    `lse` is infinite for a query that does not exist; then its weights are 0.
    """
    scores = hide_by_code(scores, query_position, query_code, key_code, CAUSAL, OWN)
    weights = tl.where((key_code != -1)[None, :], tl.exp(scores - lse[:, None]), 0.0)
    kept = weights
    changes = tl.dot(gradients, tl.trans(values), input_precision=PRECISION)
    if THRESHOLD > 0:
        dropped = dropout_factors(row_key, columns, THRESHOLD, FACTOR)
        kept = kept * dropped
        changes = changes * dropped
    live = (key_code >= 0)[None, :]
    if CAUSAL:
        live = live & (query_position[:, None] >= key_code[None, :])
    if OWN:
        live = live & (query_code[:, None] != key_code[None, :])
    return kept, tl.where(live, weights * (changes - delta[:, None]), 0.0)


@triton.jit(do_not_specialize=["length"])
def query_gradients_kernel(
    query,
    key,
    value,
    order,
    mask,
    seed,
    lse,
    delta,
    gradient,
    length,
    query_gradient,
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
    THRESHOLD: tl.constexpr,
    FACTOR: tl.constexpr,
):
    """A program has BLOCK_M queries of one chunk and iterates over the keys that they see.

    query, key, value, gradient  [batch, length, HEADS, HEAD_DIM]
    order                        [batch, HEADS, NUM_HASHES, length] i32, or None: no sort
    mask                         [batch, length] u8
    seed                         i64, or None without dropout
    lse, delta                   [batch, HEADS, length] fp32
    query_gradient               [batch, NUM_HASHES, length, HEADS, HEAD_DIM], by position
    """
    tile, chunk, row, rows = _place(length, NUM_HASHES, CHUNK_LENGTH, BLOCK_M)
    chunks, in_order, size, before, window = _extent(
        length, NUM_HASHES, CHUNK_LENGTH, CHUNKS_BEFORE, CHUNKS_AFTER
    )
    if (chunk >= chunks) | (tile * BLOCK_M >= size):
        return

    query, key, value, gradient, mask, lse, delta = _of_row(
        query, key, value, gradient, mask, lse, delta, row, length, HEADS, HEAD_DIM
    )
    chunks_a_round = tl.cdiv(length, CHUNK_LENGTH)
    if order is not None:
        order += row.to(tl.int64) * NUM_HASHES * length
    hash_round = chunk // chunks_a_round

    place = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    asked = place < size
    position = _positions(order, chunk * CHUNK_LENGTH + place, in_order)
    valid = tl.load(mask + position, mask=asked, other=0) != 0
    code = key_codes(position, valid, asked)
    queries = load_rows(query, position, asked, 0, HEADS, HEAD_DIM, BLOCK_D)
    gradients = load_rows(gradient, position, asked, 0, HEADS, HEAD_DIM, BLOCK_D)
    if WIDE:
        queries = queries.to(tl.float32)
        gradients = gradients.to(tl.float32)
    query_lse = tl.load(lse + position, mask=asked, other=float("inf"))
    query_delta = tl.load(delta + position, mask=asked, other=0.0)
    row_key = 0
    if THRESHOLD > 0:
        first = (hash_round * rows + row).to(tl.int64) * length
        row_key = row_keys(tl.load(seed), first + position)

    sums = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for start in range(0, window, BLOCK_N):
        slots, present = key_slots(start, window, chunk, chunks, before, CHUNK_LENGTH, BLOCK_N)
        key_position = _positions(order, slots, in_order)
        key_valid = tl.load(mask + key_position, mask=present, other=0) != 0
        key_code = key_codes(key_position, key_valid, present)
        keys = load_rows(key, key_position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
        values = load_rows(value, key_position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
        scores, scale = _scores(
            query, position, asked, queries, key, key_position, present, keys,
            order is not None, HEADS, HEAD_DIM, ROOT, BLOCK_M, BLOCK_N, BLOCK_K, WIDE, PRECISION,
        )  # fmt: skip
        if WIDE:
            keys = keys.to(tl.float32)
            values = values.to(tl.float32)
        _, changes = _gradients_of_scores(
            scores, values, gradients, query_lse, query_delta, position, code, key_code, row_key,
            slots // (chunks_a_round * CHUNK_LENGTH) * length + key_position,
            CAUSAL, order is not None, PRECISION, THRESHOLD, FACTOR,
        )  # fmt: skip
        changes = (changes * scale[None, :]).to(keys.dtype)
        sums = tl.dot(changes, keys, acc=sums, input_precision=PRECISION)

    first_row = _first_result(row, hash_round, length, HEADS, NUM_HASHES)
    tl.store(
        query_gradient + first_row * HEAD_DIM + row_offsets(position, 0, HEADS, HEAD_DIM, BLOCK_D),
        sums.to(query_gradient.dtype.element_ty),
        mask=row_mask(asked, 0, HEAD_DIM, BLOCK_D),
    )


@triton.jit(do_not_specialize=["length"])
def key_gradients_kernel(
    query,
    key,
    value,
    order,
    mask,
    seed,
    lse,
    delta,
    gradient,
    length,
    key_gradient,
    value_gradient,
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
    THRESHOLD: tl.constexpr,
    FACTOR: tl.constexpr,
):
    """A program has BLOCK_N keys of one chunk and iterates over the queries that see them.

    Inputs are those of `query_gradients_kernel`. Both results are [batch, NUM_HASHES, length,
    HEADS, HEAD_DIM], by position. With an order, `key_gradient` is that of the normalised key.

    A chunk that sees this one `shift` places away is `-shift` places away from it.
    """
    tile, chunk, row, rows = _place(length, NUM_HASHES, CHUNK_LENGTH, BLOCK_N)
    chunks, in_order, size, before, window = _extent(
        length, NUM_HASHES, CHUNK_LENGTH, CHUNKS_AFTER, CHUNKS_BEFORE
    )
    if (chunk >= chunks) | (tile * BLOCK_N >= size):
        return

    query, key, value, gradient, mask, lse, delta = _of_row(
        query, key, value, gradient, mask, lse, delta, row, length, HEADS, HEAD_DIM
    )
    chunks_a_round = tl.cdiv(length, CHUNK_LENGTH)
    if order is not None:
        order += row.to(tl.int64) * NUM_HASHES * length
    hash_round = chunk // chunks_a_round

    place = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    present = place < size
    position = _positions(order, chunk * CHUNK_LENGTH + place, in_order)
    valid = tl.load(mask + position, mask=present, other=0) != 0
    key_code = key_codes(position, valid, present)
    keys = load_rows(key, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
    values = load_rows(value, position, present, 0, HEADS, HEAD_DIM, BLOCK_D)
    if WIDE:
        values = values.to(tl.float32)
    columns = hash_round * length + position

    of_keys = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    of_values = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for start in range(0, window, BLOCK_M):
        slots, asked = key_slots(start, window, chunk, chunks, before, CHUNK_LENGTH, BLOCK_M)
        query_position = _positions(order, slots, in_order)
        query_valid = tl.load(mask + query_position, mask=asked, other=0) != 0
        query_code = key_codes(query_position, query_valid, asked)
        queries = load_rows(query, query_position, asked, 0, HEADS, HEAD_DIM, BLOCK_D)
        gradients = load_rows(gradient, query_position, asked, 0, HEADS, HEAD_DIM, BLOCK_D)
        query_lse = tl.load(lse + query_position, mask=asked, other=float("inf"))
        query_delta = tl.load(delta + query_position, mask=asked, other=0.0)
        row_key = 0
        if THRESHOLD > 0:
            query_round = slots // (chunks_a_round * CHUNK_LENGTH)
            first = (query_round * rows + row).to(tl.int64) * length
            row_key = row_keys(tl.load(seed), first + query_position)
        scores, _ = _scores(
            query, query_position, asked, queries, key, position, present, keys,
            order is not None, HEADS, HEAD_DIM, ROOT, BLOCK_M, BLOCK_N, BLOCK_K, WIDE, PRECISION,
        )  # fmt: skip
        if WIDE:
            queries = queries.to(tl.float32)
            gradients = gradients.to(tl.float32)
        kept, changes = _gradients_of_scores(
            scores, values, gradients, query_lse, query_delta,
            query_position, query_code, key_code, row_key, columns,
            CAUSAL, order is not None, PRECISION, THRESHOLD, FACTOR,
        )  # fmt: skip
        kept = tl.trans(kept.to(gradients.dtype))
        of_values = tl.dot(kept, gradients, acc=of_values, input_precision=PRECISION)
        changes = tl.trans(changes.to(queries.dtype))
        of_keys = tl.dot(changes, queries, acc=of_keys, input_precision=PRECISION)

    if order is None:
        of_keys = of_keys * (1.0 / ROOT)
    first_row = _first_result(row, hash_round, length, HEADS, NUM_HASHES)
    offsets = first_row * HEAD_DIM + row_offsets(position, 0, HEADS, HEAD_DIM, BLOCK_D)
    inside = row_mask(present, 0, HEAD_DIM, BLOCK_D)
    tl.store(key_gradient + offsets, of_keys.to(key_gradient.dtype.element_ty), mask=inside)
    tl.store(value_gradient + offsets, of_values.to(value_gradient.dtype.element_ty), mask=inside)


@cache
def attention_backward(
    *,
    dtype: str,
    heads: int,
    head_dim: int,
    num_hashes: int | None,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    dropout: float,
    target: int,
) -> tuple[Launch, Launch]:
    """The launches of `query_gradients_kernel` and `key_gradients_kernel`.

    Args:
        dtype: the model type ("float32", "float16", "bfloat16").
        num_hashes: the number of rounds, whose results are written separately in fp32. None for
            `ChunkAttention`, which has no order; then results have the model type.
        target: the GPU (80 for sm_80).
    """
    element = triton_type(dtype)
    result = element if num_hashes is None else "fp32"
    rounds = num_hashes or 1
    tile = backward_tile(dtype, head_dim, chunk_length, target, is_sorted=num_hashes is not None)
    constants = {
        "HEADS": heads,
        "HEAD_DIM": head_dim,
        "NUM_HASHES": rounds,
        "CHUNK_LENGTH": chunk_length,
        "CHUNKS_BEFORE": num_chunks_before,
        "CHUNKS_AFTER": num_chunks_after,
        "CAUSAL": causal,
        "ROOT": math.sqrt(head_dim),
        **tile.constants(head_dim),
        **dropout_constants(dropout),
    }
    del constants["STAGES"]
    absent = {"order": num_hashes is None, "seed": not dropout}
    constants |= {name: None for name, is_absent in absent.items() if is_absent}
    inputs = [
        *(Argument(name, f"*{element}") for name in ("query", "key", "value")),
        Argument("order", "*i32"),
        Argument("mask", "*u8"),
        Argument("seed", "*i64"),
        Argument("lse", "*fp32"),
        Argument("delta", "*fp32"),
        Argument("gradient", f"*{element}"),
    ]

    def launch(kernel: object, rows: int, *outputs: str) -> Launch:
        return Launch(
            kernel=kernel,
            inputs=tuple(each for each in inputs if not absent.get(each.name)),
            outputs=tuple(Argument(name, f"*{result}") for name in outputs),
            constants=constants,
            grid=Grid(times=heads * rounds * -(-chunk_length // rows), divisor=chunk_length),
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            max_registers=tile.max_registers,
        )

    return (
        launch(query_gradients_kernel, tile.queries, "query_gradient"),
        launch(key_gradients_kernel, tile.keys, "key_gradient", "value_gradient"),
    )
