"""`SortedChunkAttention` in standard ONNX operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from reformer_ops.core.attention_masks import ABSENT, KEY_NORM_EPSILON, MASKED, SELF
from reformer_ops.core.onnx_writer import OnnxWriter
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

    Chunks have a static length. A shorter sequence is padded to one chunk; then only the first
    round counts and no neighbour is seen. The padded slots may have the score `MASKED`, because
    every query has its own score `SELF`, so their weight is 0.
    """
    length = w.size(buckets, 3)
    padded = w.op("Max", length, w.ints(chunk_length))
    only_chunk = w.op("LessOrEqual", length, w.ints(chunk_length), name="only_chunk")
    batch, heads, num_hashes = (w.size(buckets, axis) for axis in range(3))
    head_dim = w.size(query_key, 3)

    rows = w.op("Reshape", buckets, w.shape(-1, length))
    order, rank = stable_sort(w, rows, length, num_buckets + 1)
    # Slots past the end repeat the last position: any valid index works.
    last = w.op("Sub", length, w.ints(1))
    slots = w.op("Min", w.iota(padded, "slots"), w.scalar_int32(last))
    order = w.op("Gather", order, slots, axis=1)
    # The size is not -1: a length that is not a multiple must fail here, even if the sum of all
    # rounds is a multiple.
    chunks = w.op("Mul", num_hashes, w.op("Div", padded, w.ints(chunk_length)))
    order = w.op("Reshape", order, w.shape(batch, heads, chunks, chunk_length), name="order")

    def adjacent(chunks: ir.Value, absent: int | None = None) -> ir.Value:
        return w.look_adjacent(
            chunks,
            num_chunks_before,
            num_chunks_after,
            ring_axis=2,
            join_axis=3,
            absent_if=None if absent is None else only_chunk,
            absent=None if absent is None else w.int32(absent),
        )

    # Gather rows of [batch * length * heads, head_dim], to avoid a transpose of the tensors.
    token = _offset(w, order, batch, w.scalar_int32(length), axis=0)
    head = w.op("Mul", token, w.scalar_int32(heads))
    head = _offset(w, head, heads, None, axis=1)
    queries = _gather_rows(w, query_key, head, head_dim, "queries")
    values = adjacent(_gather_rows(w, value, head, head_dim, "values"))
    keys = adjacent(_normalised(w, queries))
    scores = w.op("MatMul", queries, w.op("Transpose", keys, perm=[0, 1, 2, 4, 3]))
    scores = w.to_float32(scores)

    exists = w.op("Less", w.int32(np.arange(chunk_length)), w.scalar_int32(length), name="exists")
    reach = w.op("Where", mask, w.iota(length), w.int32(_NEVER))  # [batch, length]
    reach = w.op("Gather", w.op("Reshape", reach, w.ints(-1)), token, axis=0)
    reach = adjacent(w.op("Where", exists, reach, w.int32(_NEVER)), _NEVER)
    reach = w.op("Unsqueeze", reach, w.ints(3), name="reach")
    key_positions = adjacent(w.op("Where", exists, order, w.int32(-1)), -1)
    key_positions = w.op("Unsqueeze", key_positions, w.ints(3), name="key_positions")
    positions = w.op("Unsqueeze", order, w.ints(4))
    if causal:
        allowed = w.op("GreaterOrEqual", positions, reach, name="allowed")
    else:
        allowed = w.op("Less", reach, w.int32(_NEVER), name="allowed")
    scores = w.op("Where", allowed, scores, w.float32(MASKED))
    is_self = w.op("Equal", positions, key_positions)
    scores = w.op("Where", is_self, w.float32(SELF), scores, name="scores")
    attended, lse = w.softmax_attend(scores, values)

    # Undo the sort: for each (batch, length, head, round) the row of its result.
    rank = w.op("Reshape", rank, w.shape(batch, heads, num_hashes, length))
    place = _offset(w, rank, num_hashes, w.scalar_int32(padded), axis=2)
    per_head = w.op("Mul", num_hashes, padded)
    place = _offset(w, place, heads, w.scalar_int32(per_head), axis=1)
    place = _offset(w, place, batch, w.scalar_int32(w.op("Mul", per_head, heads)), axis=0)
    place = w.op("Transpose", place, name="place", perm=[0, 3, 1, 2])
    attended = _gather_rows(w, attended, place, head_dim, "unsorted")
    lse = w.op("Gather", w.op("Reshape", lse, w.ints(-1)), place, axis=0)

    later_round = w.op("Greater", w.iota(num_hashes), w.int32(0))
    unused = w.op("And", later_round, only_chunk)
    lse = w.op("Where", unused, w.float32(ABSENT), lse)
    return _sum_rounds(w, attended, lse)


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
    mean_square = w.op("ReduceMean", w.op("Mul", rows, rows), w.ints(-1), keepdims=1)
    head_dim = w.op("Cast", w.size(queries, 4), to=ir.DataType.FLOAT)
    root = w.op("Sqrt", w.op("Add", mean_square, w.float32(KEY_NORM_EPSILON)))
    norm = w.op("Mul", root, w.op("Sqrt", head_dim))
    return w.to_model_type(w.op("Div", rows, norm, name="keys"))


def _sum_rounds(w: OnnxWriter, attended: ir.Value, lse: ir.Value) -> ir.Value:
    """The rounds, weighted by a softmax over their logsumexps; the softmax is fp32.

    `attended` is `[batch, length, heads, num_hashes, head_dim]`, `lse` the same without head_dim.
    """
    last = w.ints(-1)
    top = w.op("ReduceMax", lse, last, keepdims=1)
    total = w.op("ReduceSum", w.op("Exp", w.op("Sub", lse, top)), last, keepdims=1)
    share = w.op("Exp", w.op("Sub", lse, w.op("Add", top, w.op("Log", total))), name="share")
    weighed = w.op("Mul", attended, w.op("Unsqueeze", share, last))
    summed = w.op("ReduceSum", weighed, w.ints(3), keepdims=0)
    return w.to_model_type(summed, name="output")
