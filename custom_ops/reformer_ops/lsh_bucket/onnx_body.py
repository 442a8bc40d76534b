"""`LshBucket` in standard ONNX operators."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import onnx_ir as ir

from reformer_ops.lsh_bucket.spec import bucket_count
from reformer_ops.onnx_writer import OnnxWriter


def body(
    w: OnnxWriter,
    query: ir.Value,
    rotations: ir.Value,
    mask: ir.Value,
    *,
    factors: Sequence[int],
) -> ir.Value:
    """The buckets, `[batch, heads, num_hashes, length]` int32."""
    num_buckets = bucket_count(factors)
    rows = w.op("Transpose", w.to_float32(query), perm=[0, 2, 1, 3])
    rows = w.op("Unsqueeze", rows, w.ints(2), name="rows")  # [batch, heads, 1, length, head_dim]
    per_round = w.op("Transpose", rotations, name="rotations", perm=[0, 2, 1, 3])
    terms: list[ir.Value] = []
    start, stride = 0, 1
    for factor in factors:
        half = factor // 2
        index = _winner(w, rows, w.slice(per_round, start, start + half, 3), half)
        terms.append(w.op("Mul", index, w.int32(stride)) if terms else index)
        start, stride = start + half, stride * factor
    buckets = reduce(lambda total, term: w.op("Add", total, term), terms)
    valid = w.op("Unsqueeze", mask, w.ints(1, 2))
    return w.op("Where", valid, buckets, w.int32(num_buckets), name="buckets")


def _winner(w: OnnxWriter, rows: ir.Value, rotations: ir.Value, half: int) -> ir.Value:
    """The index of the largest of `[x R, -x R]`, lowest first, without building the second half."""
    rotated = w.op("MatMul", rows, rotations, name="rotated")
    high = w.op("ReduceMax", rotated, w.ints(-1), keepdims=0)
    low = w.op("ReduceMin", rotated, w.ints(-1), keepdims=0)
    high_index = w.op("ArgMax", rotated, axis=-1, keepdims=0)
    low_index = w.op("ArgMin", rotated, axis=-1, keepdims=0)
    positive = w.op("GreaterOrEqual", high, w.op("Neg", low))
    index = w.op("Where", positive, high_index, w.op("Add", low_index, w.ints(half)))
    return w.op("Cast", index, to=ir.DataType.INT32)
