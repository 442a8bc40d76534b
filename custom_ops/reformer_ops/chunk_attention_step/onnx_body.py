"""`ChunkAttentionStep` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.attention_masks import ABSENT
from reformer_ops.core.onnx_writer import OnnxWriter


def body(
    w: OnnxWriter,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    past_key: ir.Value,
    past_value: ir.Value,
    past_length: ir.Value,
    *,
    chunk_length: int,
    num_chunks_before: int,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The output `[batch, heads, head_dim]`, and the cache with the new token in it."""
    window, chunk = w.int32((num_chunks_before + 1) * chunk_length), w.int32(chunk_length)
    position = w.op("Unsqueeze", past_length, w.ints(1), name="position")  # [batch, 1]
    slots = w.op("Unsqueeze", w.iota(w.size(past_key, 1), "slots"), w.ints(0))
    # Slots after the new token's slot hold tokens of the previous window, or no token yet.
    age = w.op("Mod", w.op("Sub", position, slots), window, name="age")
    is_new = w.op("Equal", age, w.int32(0))
    is_new = w.op("Unsqueeze", is_new, w.ints(2, 3), name="is_new")

    def appended(past: ir.Value, new: ir.Value, name: str) -> ir.Value:
        return w.op("Where", is_new, w.op("Unsqueeze", new, w.ints(1)), past, name=name)

    present_key = appended(past_key, key, "present_key")
    present_value = appended(past_value, value, "present_value")
    reach = w.op("Sub", w.op("Div", position, chunk), w.int32(num_chunks_before))
    first = w.op("Max", w.op("Mul", reach, chunk), w.int32(0), name="first")
    seen = w.op("LessOrEqual", age, w.op("Sub", position, first))
    seen = w.op("Unsqueeze", seen, w.ints(1, 2), name="seen")  # [batch, 1, 1, window]

    root = w.op("Sqrt", w.op("Cast", w.size(query, 2), to=ir.DataType.FLOAT))
    keys = w.op("Transpose", present_key, perm=[0, 2, 3, 1])
    keys = w.op("Div", keys, w.to_model_type(root), name="keys")
    values = w.op("Transpose", present_value, name="values", perm=[0, 2, 1, 3])
    scores = w.to_float32(w.op("MatMul", w.op("Unsqueeze", query, w.ints(2)), keys))
    scores = w.op("Where", seen, scores, w.float32(ABSENT), name="scores")
    attended, _ = w.softmax_attend(scores, values)
    attended = w.op("Squeeze", attended, w.ints(2))
    return w.to_model_type(attended, name="output"), present_key, present_value
