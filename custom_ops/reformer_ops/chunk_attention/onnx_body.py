"""`ChunkAttention` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.attention_masks import ABSENT, ALLOWED, MASKED
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

    A sequence shorter than a chunk is one chunk of its own length. Its neighbours are not in the
    softmax (`ABSENT`). The caller's padding is in it (`MASKED`), which makes a difference for a
    query that sees no other key. A longer sequence that is not a multiple of a chunk fails at a
    Reshape.
    """
    # From the mask: so the limits are the same nodes in all layers, and runtimes compute them once.
    length = w.size(mask, 1)
    size = w.op("Min", length, w.ints(chunk_length), name="size")
    ring = w.ring(w.op("Div", length, size), num_chunks_before, num_chunks_after)

    def chunked(tensor: ir.Value, name: str) -> ir.Value:
        """`[batch, length, heads, head_dim] -> [batch, heads, chunks, size, head_dim]`."""
        by_head = w.op("Transpose", tensor, perm=[0, 2, 1, 3])
        return w.op("Reshape", by_head, w.shape(0, 0, -1, size, w.size(tensor, 3)), name=name)

    def seen(chunks: ir.Value, name: str) -> ir.Value:
        """`[batch, heads, chunks, size, head_dim] -> [batch, heads, chunks, keys, head_dim]`."""
        if ring is None:
            return chunks
        gathered = w.op("Gather", chunks, ring, axis=2)
        keys = w.op("Mul", size, w.ints(1 + num_chunks_before + num_chunks_after))
        return w.op("Reshape", gathered, w.shape(0, 0, -1, keys, w.size(value, 3)), name=name)

    root = _sqrt_head_dim(w, key)
    # Runtimes fuse a product and a constant factor. In half precision the product could overflow.
    scales_scores = w.float_type == ir.DataType.FLOAT
    if not scales_scores:
        key = w.op("Div", key, root)
    queries = chunked(query, "queries")
    keys = seen(chunked(key, "key_chunks"), "keys")
    values = seen(chunked(value, "value_chunks"), "values")
    scores = w.op("MatMul", queries, w.op("Transpose", keys, perm=[0, 1, 2, 4, 3]))
    scores = w.to_float32(scores)
    if scales_scores:
        scores = w.op("Div", scores, root)

    limits = _limits(w, mask, length, size, ring, num_chunks_before, num_chunks_after, causal)
    weights = w.op("Softmax", w.op("Min", scores, limits, name="scores"), name="weights", axis=-1)
    attended = w.op("MatMul", w.to_model_type(weights), values)
    attended = w.op("Mul", attended, w.to_model_type(_sums(w, limits)), name="attended")
    merged = w.op("Reshape", attended, w.shape(0, 0, length, -1))
    return w.op("Transpose", merged, name="output", perm=[0, 2, 1, 3])


def _limits(
    w: OnnxWriter,
    mask: ir.Value,
    length: ir.Value,
    size: ir.Value,
    ring: ir.Value | None,
    before: int,
    after: int,
    causal: bool,
) -> ir.Value:
    """The largest score that each key may have: `[batch, 1, chunks, size or 1, keys]`.

    The minimum of scores and limits is several times as fast as Where in ONNX Runtime.
    """
    limits = w.op("Where", mask, w.float32(ALLOWED), w.float32(MASKED))
    limits = w.op("Reshape", limits, w.shape(0, -1, size))
    positions = w.op("Reshape", w.iota(length, "positions"), w.shape(-1, size))
    key_positions = positions
    if ring is not None:
        numbers = w.size(limits, 1)
        others = [int(shift != 0) for shift in range(-before, after + 1)]
        limits = w.op("Gather", limits, ring, axis=1)
        limits = w.op("Reshape", limits, w.shape(0, numbers, len(others), size))
        only_chunk = w.op("Equal", numbers, w.ints(1))
        absent = w.op("And", only_chunk, w.op("Equal", w.ints(*others), w.ints(1)))
        absent = w.op("Unsqueeze", absent, w.ints(1), name="absent")
        limits = w.op("Where", absent, w.float32(ABSENT), limits)
        limits = w.op("Reshape", limits, w.shape(0, numbers, -1))
        key_positions = w.op(
            "Reshape", w.op("Gather", positions, ring, axis=0), w.shape(numbers, -1)
        )
    limits = w.op("Unsqueeze", limits, w.ints(1, 3), name="limits")
    if not causal:
        return limits
    past = w.op(
        "GreaterOrEqual",
        w.op("Unsqueeze", positions, w.ints(2)),
        w.op("Unsqueeze", key_positions, w.ints(1)),
        name="past",
    )
    later = w.op("Min", limits, w.float32(MASKED))
    return w.op("Where", past, limits, later, name="causal_limits")


def _sums(w: OnnxWriter, limits: ir.Value) -> ir.Value:
    """The sum of the weights of each query, from the limits of its keys.

    It is 1, but if all keys are masked, their weights are 1 each: fp32 cannot tell the logsumexp of
    their scores from `MASKED`.
    """
    last = w.ints(-1)
    only_masked = w.op("LessOrEqual", w.op("ReduceMax", limits, last), w.float32(MASKED))
    is_masked = w.op("Equal", limits, w.float32(MASKED))
    masked = w.op("ReduceSum", w.op("Cast", is_masked, to=ir.DataType.FLOAT), last)
    return w.op("Where", only_masked, masked, w.float32(1.0), name="sums")


def _sqrt_head_dim(w: OnnxWriter, tensor: ir.Value) -> ir.Value:
    """The square root of the last axis' size, in the model's type."""
    head_dim = w.op("Squeeze", w.size(tensor, 3), w.ints(0))
    root = w.op("Sqrt", w.op("Cast", head_dim, to=ir.DataType.FLOAT))
    return w.to_model_type(root)
