"""`ChunkAttention` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.attention_masks import ABSENT, MASKED
from reformer_ops.core.onnx_writer import OnnxWriter


def body(
    w: OnnxWriter,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    mask: ir.Value,
    *,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> ir.Value:
    """The attended values, `[batch, length, heads, head_dim]` in the model's type.

    Chunks have a static length, so a sequence shorter than a chunk is padded to that length (a
    longer sequence that is not a multiple of it fails at the Reshape). These slots, and the
    neighbours of a single chunk, are not in the softmax (`ABSENT`). The caller's padding is in it
    (`MASKED`), which makes a difference for a query that sees no other key.
    """
    length = w.size(query, 1)
    padded = w.op("Max", length, w.ints(chunk_length))
    padding = w.op("Sub", padded, length)
    only_chunk = w.op("LessOrEqual", length, w.ints(chunk_length))

    def chunked(tensor: ir.Value, name: str) -> ir.Value:
        """`[batch, length, heads, head_dim] -> [batch, chunks, heads, chunk_length, head_dim]`."""
        pads = w.shape(0, 0, 0, 0, 0, padding, 0, 0)
        padded = w.op("Pad", tensor, pads)
        heads, head_dim = w.size(tensor, 2), w.size(tensor, 3)
        chunks = w.op("Reshape", padded, w.shape(0, -1, chunk_length, heads, head_dim))
        return w.op("Transpose", chunks, name=name, perm=[0, 1, 3, 2, 4])

    def adjacent(chunks: ir.Value, join_axis: int, absent: ir.Value | None = None) -> ir.Value:
        return w.look_adjacent(
            chunks,
            num_chunks_before,
            num_chunks_after,
            ring_axis=1,
            join_axis=join_axis,
            absent_if=only_chunk,
            absent=absent,
        )

    queries = chunked(query, "queries")
    keys = adjacent(chunked(w.op("Div", key, _sqrt_head_dim(w, key)), "keys"), 3)
    values = adjacent(chunked(value, "values"), 3)
    scores = w.op("MatMul", queries, w.op("Transpose", keys, perm=[0, 1, 2, 4, 3]))
    scores = w.to_float32(scores)

    # For each key: 2 allowed, 1 masked, 0 absent. Integers: not every runtime can pad booleans.
    status = w.op("Add", w.op("Cast", mask, to=ir.DataType.INT32), w.int32(1))
    status = w.op("Pad", status, w.shape(0, 0, 0, padding))
    status = w.op("Reshape", status, w.shape(0, -1, chunk_length))
    status = adjacent(status, 2, w.int32(0))
    status = w.op("Unsqueeze", status, w.ints(2, 3), name="status")  # [batch, chunks, 1, 1, keys]
    fill = w.op("Where", w.op("Equal", status, w.int32(0)), w.float32(ABSENT), w.float32(MASKED))
    allowed = w.op("Equal", status, w.int32(2))
    if causal:
        positions = w.iota(padded, "positions")
        positions = w.op("Reshape", positions, w.ints(1, -1, chunk_length))
        key_positions = w.op("Unsqueeze", adjacent(positions, 2), w.ints(2))
        positions = w.op("Unsqueeze", positions, w.ints(3))
        past = w.op("GreaterOrEqual", positions, key_positions)
        allowed = w.op("And", allowed, w.op("Unsqueeze", past, w.ints(2)), name="allowed")
    scores = w.op("Where", allowed, scores, fill, name="scores")
    attended, _ = w.softmax_attend(scores, values)

    merged = w.op("Transpose", w.to_model_type(attended), perm=[0, 1, 3, 2, 4])
    heads, head_dim = w.size(query, 2), w.size(query, 3)
    merged = w.op("Reshape", merged, w.shape(0, -1, heads, head_dim))
    return w.op("Slice", merged, w.ints(0), length, w.ints(1), name="output")


def _sqrt_head_dim(w: OnnxWriter, tensor: ir.Value) -> ir.Value:
    """The square root of the last axis' size, in the model's type."""
    head_dim = w.op("Squeeze", w.size(tensor, 3), w.ints(0))
    root = w.op("Sqrt", w.op("Cast", head_dim, to=ir.DataType.FLOAT))
    return w.to_model_type(root)
