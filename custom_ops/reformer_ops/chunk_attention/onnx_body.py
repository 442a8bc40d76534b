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

    Chunks have a static length, because TensorRT reserves memory for every length that a dynamic
    axis could have. In a sequence shorter than a chunk, the slots past the end repeat the last
    token. These slots, and the neighbours of a single chunk, are not in the softmax (`ABSENT`). The
    caller's padding is in it (`MASKED`), which makes a difference for a query that sees no other
    key. A longer sequence that is not a multiple of a chunk fails at a Reshape.
    """
    # From the mask: so the limits are the same nodes in all layers, and runtimes compute them once.
    length = w.size(mask, 1)
    padded = w.op("Max", length, w.ints(chunk_length))
    last = w.scalar_int32(w.op("Sub", length, w.ints(1)))
    slots = w.iota(padded, "slots")
    chunks = w.op("Div", padded, w.ints(chunk_length))
    ring = w.ring(chunks, num_chunks_before, num_chunks_after)
    seen = slots
    if ring is not None:
        by_chunk = w.op("Reshape", slots, w.ints(-1, chunk_length))
        seen = w.op("Reshape", w.op("Gather", by_chunk, ring, axis=0), w.ints(-1), name="seen")

    def chunked(tensor: ir.Value, at: ir.Value, size: int, name: str) -> ir.Value:
        """`[batch, length, heads, head_dim] -> [batch, heads, chunks, size, head_dim]`, the tokens
        of the slots `at`."""
        by_head = w.op("Transpose", tensor, perm=[0, 2, 1, 3])
        gathered = w.op("Gather", by_head, w.op("Min", at, last), axis=2)
        return w.op("Reshape", gathered, w.shape(0, 0, -1, size, w.size(tensor, 3)), name=name)

    root = _sqrt_head_dim(w, key)
    # Runtimes fuse a product and a constant factor. In half precision the product could overflow.
    scales_scores = w.float_type == ir.DataType.FLOAT
    if not scales_scores:
        key = w.op("Div", key, root)
    num_keys = chunk_length * (1 + num_chunks_before + num_chunks_after)
    queries = chunked(query, slots, chunk_length, "queries")
    keys = chunked(key, seen, num_keys, "keys")
    values = chunked(value, seen, num_keys, "values")
    scores = w.op("MatMul", queries, w.op("Transpose", keys, perm=[0, 1, 2, 4, 3]))
    scores = w.to_float32(scores)
    if scales_scores:
        scores = w.op("Div", scores, root)

    limits = w.op("Where", mask, w.float32(ALLOWED), w.float32(MASKED))
    limits = w.op("Gather", limits, w.op("Min", seen, last), axis=1)
    limits = w.op("Reshape", limits, w.ints(0, -1, num_keys))
    seen = w.op("Reshape", seen, w.ints(-1, num_keys))
    exists = w.op("Less", seen, w.scalar_int32(length))
    if ring is not None:
        is_own = w.own_chunk(chunk_length, num_chunks_before, num_chunks_after)
        several = w.op("Greater", length, w.ints(chunk_length))
        exists = w.op("And", exists, w.op("Or", is_own, several))
    limits = w.op("Where", exists, limits, w.float32(ABSENT))
    limits = w.op("Unsqueeze", limits, w.ints(1, 3), name="limits")
    if causal:
        positions = w.op("Reshape", slots, w.ints(-1, chunk_length, 1))
        past = w.op("GreaterOrEqual", positions, w.op("Unsqueeze", seen, w.ints(1)), name="past")
        later = w.op("Min", limits, w.float32(MASKED))
        limits = w.op("Where", past, limits, later, name="causal_limits")

    # The minimum of scores and limits is several times as fast as Where in ONNX Runtime.
    weights = w.op("Softmax", w.op("Min", scores, limits, name="scores"), name="weights", axis=-1)
    attended = w.op("MatMul", w.to_model_type(weights), values)
    attended = w.op("Mul", attended, w.to_model_type(_sums(w, limits)), name="attended")
    merged = w.op("Reshape", attended, w.shape(0, 0, -1, w.size(value, 3)))
    merged = w.op("Slice", merged, w.ints(0), length, w.ints(2))
    return w.op("Transpose", merged, name="output", perm=[0, 2, 1, 3])


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
