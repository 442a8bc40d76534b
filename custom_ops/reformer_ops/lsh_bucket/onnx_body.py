"""`LshBucket` in standard ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from reformer_ops.core.onnx_writer import OnnxWriter
from reformer_ops.lsh_bucket.spec import bucket_count


def body(
    w: OnnxWriter,
    query: ir.Value,
    rotations: ir.Value,
    mask: ir.Value,
    *,
    factors: Sequence[int],
) -> ir.Value:
    """The buckets, `[batch, heads, num_hashes, length]` int32."""
    rows = w.op("Transpose", w.to_float32(query), perm=[0, 2, 1, 3])
    rows = w.op("Unsqueeze", rows, w.ints(2), name="rows")  # [batch, heads, 1, length, head_dim]
    per_round = w.op("Transpose", rotations, name="rotations", perm=[0, 2, 1, 3])

    def winner(start: int, half: int) -> ir.Value:
        columns = w.slice(per_round, start, start + half, 3)
        return _winner(w, w.op("MatMul", rows, columns, name="rotated"), half, axis=-1)

    return _numbered(w, winner, mask, factors)


def convolution_body(
    w: OnnxWriter,
    query: ir.Value,
    rotations: NDArray[np.float32],
    mask: ir.Value,
    *,
    factors: Sequence[int],
) -> ir.Value:
    """The same with the projections as a convolution of width 1, in which a head is a group.

    For devices without fp32 matrix products. The rotations must be constant:
    `[heads, head_dim, num_hashes, half_factors]`.
    """
    heads, head_dim, num_hashes, _ = rotations.shape
    signal = w.op("Transpose", w.to_float32(query), perm=[0, 2, 3, 1])
    signal = w.op("Reshape", signal, w.ints(0, heads * head_dim, -1), name="signal")

    def winner(start: int, half: int) -> ir.Value:
        kernel = rotations[..., start : start + half].transpose(0, 2, 3, 1)
        kernel = kernel.reshape(heads * num_hashes * half, head_dim, 1)
        weight = w.constant(kernel, np.float32, name="rotations")
        rotated = w.op("Conv", signal, weight, name="rotated", group=heads, kernel_shape=[1])
        rotated = w.op("Reshape", rotated, w.ints(0, heads, num_hashes, half, -1))
        return _winner(w, rotated, half, axis=-2)

    return _numbered(w, winner, mask, factors)


def _numbered(
    w: OnnxWriter, winner: Callable[[int, int], ir.Value], mask: ir.Value, factors: Sequence[int]
) -> ir.Value:
    """One bucket number from the winners of all factors; padding gets its own number."""
    terms: list[ir.Value] = []
    start, stride = 0, 1
    for factor in factors:
        index = winner(start, factor // 2)
        terms.append(w.op("Mul", index, w.int32(stride)) if terms else index)
        start, stride = start + factor // 2, stride * factor
    buckets = reduce(lambda total, term: w.op("Add", total, term), terms)
    valid = w.op("Unsqueeze", mask, w.ints(1, 2))
    return w.op("Where", valid, buckets, w.int32(bucket_count(factors)), name="buckets")


def _winner(w: OnnxWriter, rotated: ir.Value, half: int, *, axis: int) -> ir.Value:
    """The lowest index of the largest of `[x R, -x R]`, without computing the second half."""
    high = w.op("ReduceMax", rotated, w.ints(axis), keepdims=0)
    low = w.op("ReduceMin", rotated, w.ints(axis), keepdims=0)
    high_index = w.op("ArgMax", rotated, axis=axis, keepdims=0)
    low_index = w.op("ArgMin", rotated, axis=axis, keepdims=0)
    positive = w.op("GreaterOrEqual", high, w.op("Neg", low))
    index = w.op("Where", positive, high_index, w.op("Add", low_index, w.ints(half)))
    return w.op("Cast", index, to=ir.DataType.INT32)
