"""`SortedChunkAttentionStep` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.attention_masks import ABSENT, KEY_NORM_EPSILON, SELF
from reformer_ops.core.onnx_writer import OnnxWriter


def body(
    w: OnnxWriter,
    query_key: ir.Value,
    value: ir.Value,
    buckets: ir.Value,
    past_key: ir.Value,
    past_value: ir.Value,
    past_buckets: ir.Value,
    past_order: ir.Value,
    past_length: ir.Value,
    attend_all: ir.Value,
    *,
    chunk_length: int,
    num_chunks_before: int,
) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value, ir.Value]:
    """The output `[batch, heads, head_dim]`, and the cache with the new token in it."""
    chunk = w.int32(chunk_length)
    tokens = w.iota(w.size(past_key, 1), "tokens")  # [capacity]
    position = w.op("Unsqueeze", past_length, w.ints(1, 2, 3), name="position")  # [batch, 1, 1, 1]
    is_new = w.op("Equal", tokens, position, name="is_new")  # [batch, 1, 1, capacity]
    is_new_row = w.op("Transpose", is_new, perm=[0, 3, 1, 2])

    def appended(past: ir.Value, new: ir.Value, name: str) -> ir.Value:
        return w.op("Where", is_new_row, w.op("Unsqueeze", new, w.ints(1)), past, name=name)

    present_key = appended(past_key, query_key, "present_key")
    present_value = appended(past_value, value, "present_value")
    bucket = w.op("Unsqueeze", buckets, w.ints(3), name="bucket")
    present_buckets = w.op("Where", is_new, bucket, past_buckets, name="present_buckets")

    # The new token's place, and the order with it in there.
    is_past = w.op("Less", tokens, position)
    before = w.op("And", w.op("LessOrEqual", past_buckets, bucket), is_past)
    before = w.op("Cast", before, to=ir.DataType.INT32)
    place = w.op("ReduceSum", before, w.ints(3), name="place", keepdims=1)
    # Concat and Slice rather than Pad: integers are not padded everywhere.
    shifted = w.op("Concat", w.slice(past_order, 0, 1, 3), w.slice(past_order, 0, -1, 3), axis=3)
    later = w.op("Where", w.op("Equal", tokens, place), position, shifted)
    after_new = w.op("Greater", tokens, position)  # the unused end stays as it is
    keep = w.op("Or", w.op("Less", tokens, place), after_new)
    present_order = w.op("Where", keep, past_order, later, name="present_order")

    # The tokens that are seen: [batch, heads, num_hashes, slots].
    reach = (num_chunks_before + 1) * chunk_length
    count = max(reach, chunk_length + 1)  # attend_all is for at most one chunk and the new token
    slots = w.iota(w.ints(count), "slots")
    length = w.op("Add", position, w.int32(1), name="length")
    chunks = w.op("Sub", w.op("Div", place, chunk), w.int32(num_chunks_before))
    places = w.op("Mod", w.op("Add", w.op("Mul", chunks, chunk), slots), length, name="places")
    everything = w.op("Unsqueeze", attend_all, w.ints(1, 2, 3), name="attend_all")
    sorted_tokens = w.op("GatherElements", present_order, places, axis=3)
    all_tokens = w.op("Min", slots, position)
    seen = w.op("Where", everything, all_tokens, sorted_tokens, name="seen")
    used = w.op("Where", everything, length, w.int32(reach))
    exists = w.op("Less", slots, used, name="exists")

    # Rows of [batch * capacity * heads, head_dim].
    batch, capacity, heads, head_dim = (w.size(past_key, axis) for axis in range(4))
    per_row = w.op("Mul", w.iota(batch), w.scalar_int32(capacity))
    rows = w.op("Add", seen, w.op("Unsqueeze", per_row, w.ints(1, 2, 3)))
    rows = w.op("Mul", rows, w.scalar_int32(heads))
    rows = w.op("Add", rows, w.op("Unsqueeze", w.iota(heads), w.ints(0, 2, 3)), name="rows")

    def gathered(tensor: ir.Value, name: str) -> ir.Value:
        flat = w.op("Reshape", tensor, w.shape(-1, head_dim))
        return w.op("Gather", flat, rows, name=name, axis=0)

    keys = w.to_float32(gathered(present_key, "keys"))
    mean_square = w.op("ReduceMean", w.op("Mul", keys, keys), w.ints(-1), keepdims=1)
    root = w.op("Sqrt", w.op("Add", mean_square, w.float32(KEY_NORM_EPSILON)))
    root_dim = w.op("Sqrt", w.op("Cast", head_dim, to=ir.DataType.FLOAT))
    keys = w.to_model_type(w.op("Div", keys, w.op("Mul", root, root_dim), name="normalised"))
    query = w.op("Unsqueeze", query_key, w.ints(2, 3), name="query")
    scores = w.op("MatMul", query, w.op("Transpose", keys, perm=[0, 1, 2, 4, 3]))
    scores = w.op("Squeeze", w.to_float32(scores), w.ints(3))
    scores = w.op("Where", w.op("Equal", seen, position), w.float32(SELF), scores)
    scores = w.op("Where", exists, scores, w.float32(ABSENT), name="scores")
    scores = w.op("Unsqueeze", scores, w.ints(3))
    attended, lse = w.softmax_attend(scores, gathered(present_value, "values"))

    # Rounds weighed by a softmax over their logsumexps. A token that attends all has one round.
    later_round = w.op("Greater", w.iota(w.size(buckets, 2)), w.int32(0))
    unused = w.op("And", w.op("Unsqueeze", later_round, w.ints(1)), everything)
    lse = w.op("Where", w.op("Unsqueeze", unused, w.ints(4)), w.float32(ABSENT), lse)
    top = w.op("ReduceMax", lse, w.ints(2), keepdims=1)
    total = w.op("ReduceSum", w.op("Exp", w.op("Sub", lse, top)), w.ints(2), keepdims=1)
    share = w.op("Exp", w.op("Sub", lse, w.op("Add", top, w.op("Log", total))), name="share")
    summed = w.op("ReduceSum", w.op("Mul", attended, share), w.ints(2, 3), keepdims=0)
    output = w.to_model_type(summed, name="output")
    return output, present_key, present_value, present_buckets, present_order
