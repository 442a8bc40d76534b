"""`SortedChunkAttention` in standard ONNX operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from reformer_ops.core.attention_masks import ABSENT, ALLOWED, KEY_NORM_EPSILON, MASKED, SELF
from reformer_ops.core.onnx_writer import OnnxWriter, fixed_size
from reformer_ops.sorted_chunk_attention.onnx_sort import stable_sort

_NEVER = int(np.iinfo(np.int32).max)  # no query has a position this large: the key is masked


def body(
    w: OnnxWriter,
    query_key: ir.Value,
    value: ir.Value,
    buckets: ir.Value,
    mask: ir.Value,
    *,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> ir.Value:
    """The attended values, `[batch, length, heads, head_dim]` in the model's type.

    Chunks have a static length, because TensorRT reserves memory for every length that a dynamic
    axis could have. A shorter sequence is padded to one chunk; then only the first round counts,
    and no neighbour is seen. The padded slots may have the score `MASKED`, because every query has
    its own score `SELF`, so their weight is 0. The body is shorter if the shape of `buckets` says
    that there is one round.
    """
    length = w.size(mask, 1)
    padded = w.op("Max", length, w.ints(chunk_length))
    only_chunk = w.op("LessOrEqual", length, w.ints(chunk_length), name="only_chunk")
    batch, heads, num_hashes = (w.size(buckets, axis) for axis in range(3))
    head_dim = w.size(query_key, 3)
    # With one round, and chunks that see no chunk twice, a query sees its own position once, at a
    # fixed place. Then its weights sum to 1, and the logsumexp is not needed.
    is_simple = fixed_size(buckets, 2) == 1 and max(num_chunks_before, num_chunks_after) < 2

    rows = w.op("Reshape", buckets, w.shape(-1, length))
    order, rank = stable_sort(w, rows, length, num_buckets + 1)
    # Slots past the end repeat the last position: any valid index works.
    last = w.scalar_int32(w.op("Sub", length, w.ints(1)))
    order = w.op("Gather", order, w.op("Min", w.iota(padded, "slots"), last), axis=1)
    # The size is not -1: a length that is not a multiple must fail here, even if the sum of all
    # rounds is a multiple.
    chunks = w.op("Mul", num_hashes, w.op("Div", padded, w.ints(chunk_length)))
    order = w.op("Reshape", order, w.shape(batch, heads, chunks, chunk_length), name="order")
    ring = w.ring(chunks, num_chunks_before, num_chunks_after)
    seen = order
    if ring is not None:
        num_keys = chunk_length * (1 + num_chunks_before + num_chunks_after)
        seen = w.op("Gather", order, ring, axis=2)
        seen = w.op("Reshape", seen, w.shape(0, 0, chunks, num_keys), name="seen")

    # Gather rows of [batch * length * heads, head_dim], to avoid a transpose of the tensors.
    per_sequence = w.scalar_int32(length)

    def rows_of(tokens: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Indices into `[batch * length]` and into `[batch * length * heads]`."""
        token = _offset(w, tokens, batch, per_sequence, axis=0)
        row = w.op("Mul", token, w.scalar_int32(heads))
        return token, _offset(w, row, heads, None, axis=1)

    _, query_rows = rows_of(order)
    key_tokens, key_rows = rows_of(seen)
    queries = _gather_rows(w, query_key, query_rows, head_dim, "queries")
    keys = _gather_rows(w, _normalised(w, query_key), key_rows, head_dim, "keys")
    values = _gather_rows(w, value, key_rows, head_dim, "values")
    scores = w.op("MatMul", queries, w.op("Transpose", keys, perm=[0, 1, 2, 4, 3]))
    scores = w.to_float32(scores)

    slots = np.tile(np.arange(chunk_length), 1 + num_chunks_before + num_chunks_after)
    exists = w.op("Less", w.int32(slots), w.scalar_int32(length), name="exists")
    if ring is not None:
        is_own = w.own_chunk(chunk_length, num_chunks_before, num_chunks_after)
        exists = w.op("And", exists, w.op("Or", is_own, w.op("Not", only_chunk)))
    reach = w.op("Where", mask, w.iota(length), w.int32(_NEVER))  # [batch, length]
    reach = w.op("Gather", w.op("Reshape", reach, w.ints(-1)), key_tokens, axis=0)
    reach = w.op("Where", exists, reach, w.int32(_NEVER))
    seen = w.op("Where", exists, seen, w.int32(-1))
    reach = w.op("Unsqueeze", reach, w.ints(3), name="reach")
    positions = w.op("Unsqueeze", order, w.ints(4))
    if not causal:
        allowed = w.op("Less", reach, w.int32(_NEVER))
        limits = w.op("Where", allowed, w.float32(ALLOWED), w.float32(MASKED), name="limits")
    elif is_simple:
        floor = _own_places(w, chunk_length, num_chunks_before, num_chunks_after)
        limits = _causal_limits(w, positions, reach, floor)
    else:
        limits = _causal_limits(w, positions, reach, w.float32(MASKED))
    scores = w.op("Min", scores, limits, name="limited")
    if not (causal and is_simple):
        is_self = w.op("Equal", positions, w.op("Unsqueeze", seen, w.ints(3)))
        scores = w.op("Where", is_self, w.float32(SELF), scores, name="scores")
    weights = w.op("Softmax", scores, name="weights", axis=-1)
    attended = w.op("MatMul", w.to_model_type(weights), values, name="attended")

    # Undo the sort: for each (batch, length, head, round) the row of its result.
    rank = w.op("Reshape", rank, w.shape(batch, heads, num_hashes, length))
    place = _offset(w, rank, num_hashes, w.scalar_int32(padded), axis=2)
    per_head = w.op("Mul", num_hashes, padded)
    place = _offset(w, place, heads, w.scalar_int32(per_head), axis=1)
    place = _offset(w, place, batch, w.scalar_int32(w.op("Mul", per_head, heads)), axis=0)
    place = w.op("Transpose", place, name="place", perm=[0, 3, 1, 2])
    unsorted = _gather_rows(w, attended, place, head_dim, "unsorted")
    if is_simple:
        return w.op("Squeeze", unsorted, w.ints(3), name="output")

    def by_token(tensor: ir.Value) -> ir.Value:
        """`[batch, heads, chunks, queries, 1] -> [batch, length, heads, num_hashes]`."""
        return w.op("Gather", w.op("Reshape", tensor, w.ints(-1)), place, axis=0)

    last = w.ints(-1)
    top = w.op("ReduceMax", scores, last, keepdims=1)
    largest = w.op("ReduceMax", weights, last, keepdims=1)  # exp(top) / sum of all exp
    lse = w.op("Sub", top, w.op("Log", largest), name="lse")
    # The sum of the weights exp(scores - lse): not 1 where fp32 rounds lse.
    sums = w.op("Div", w.op("Exp", w.op("Sub", top, lse)), largest, name="sums")
    later_round = w.op("Greater", w.iota(num_hashes), w.int32(0))
    unused = w.op("And", later_round, only_chunk)
    lse = w.op("Where", unused, w.float32(ABSENT), by_token(lse))
    return _sum_rounds(w, unsorted, lse, by_token(sums))


def _own_places(w: OnnxWriter, chunk_length: int, before: int, after: int) -> ir.Value:
    """`[queries, keys]`: `SELF` where a key of a chunk is the query itself, else `MASKED`."""
    queries = np.arange(chunk_length)
    keys = np.concatenate(
        [
            queries if shift == 0 else np.full_like(queries, -1)
            for shift in range(-before, after + 1)
        ]
    )
    is_self = w.op("Equal", w.int32(queries[:, None]), w.int32(keys))
    return w.op("Where", is_self, w.float32(SELF), w.float32(MASKED), name="own_places")


def _causal_limits(
    w: OnnxWriter, positions: ir.Value, reach: ir.Value, floor: ir.Value
) -> ir.Value:
    """The largest score that each key may have: `floor` unless the key counts.

    The minimum of scores and limits is several times as fast as Where in ONNX Runtime. Positions
    are below 2**23, so their differences, in halves, are exact in fp32. Times 2**32, they are
    larger than every score or less than `MASKED`.
    """

    def scaled(value: ir.Value) -> ir.Value:
        return w.op("Mul", w.op("Cast", value, to=ir.DataType.FLOAT), w.float32(2.0**32))

    half = w.float32(2.0**31)
    distance = w.op("Sub", scaled(positions), w.op("Add", scaled(reach), half), name="distance")
    return w.op("Max", distance, floor, name="limits")


def _offset(
    w: OnnxWriter, index: ir.Value, size: ir.Value, stride: ir.Value | None, *, axis: int
) -> ir.Value:
    """`index` plus `stride` times the position along `axis` of a rank-4 index."""
    steps = w.iota(size)
    if stride is not None:
        steps = w.op("Mul", steps, stride)
    others = [other for other in range(4) if other != axis]
    return w.op("Add", index, w.op("Unsqueeze", steps, w.ints(*others)))


def _gather_rows(
    w: OnnxWriter, tensor: ir.Value, index: ir.Value, head_dim: ir.Value, name: str
) -> ir.Value:
    """Rows of `head_dim` numbers by their flat index: `[*index.shape, head_dim]`."""
    flat = w.op("Reshape", tensor, w.shape(-1, head_dim))
    return w.op("Gather", flat, index, name=name, axis=0)


def _normalised(w: OnnxWriter, queries: ir.Value) -> ir.Value:
    """Keys: queries divided by their root mean square and the square root of head_dim, in fp32."""
    rows = w.to_float32(queries)
    squares = w.op("ReduceSumSquare", rows, w.ints(-1), keepdims=1)
    head_dim = w.op("Cast", w.size(queries, 3), to=ir.DataType.FLOAT)
    epsilon = w.op("Mul", head_dim, w.float32(KEY_NORM_EPSILON))
    norm = w.op("Sqrt", w.op("Add", squares, epsilon))
    return w.to_model_type(w.op("Div", rows, norm, name="normalised"))


def _sum_rounds(w: OnnxWriter, attended: ir.Value, lse: ir.Value, sums: ir.Value) -> ir.Value:
    """The rounds, times `sums`, weighted by exp(lse - logsumexp of all rounds), which is fp32.

    `attended` is `[batch, length, heads, num_hashes, head_dim]`, the others the same without
    head_dim.
    """
    last = w.ints(-1)
    top = w.op("ReduceMax", lse, last, keepdims=1)
    total = w.op("ReduceSum", w.op("Exp", w.op("Sub", lse, top)), last, keepdims=1)
    share = w.op("Exp", w.op("Sub", lse, w.op("Add", top, w.op("Log", total))))
    share = w.op("Unsqueeze", w.op("Mul", share, sums), last, name="share")
    # No product of matrices: not every device has those in fp32.
    summed = w.op("ReduceSum", w.op("Mul", w.to_float32(attended), share), w.ints(3), keepdims=0)
    return w.to_model_type(summed, name="output")
