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
    past_starts: ir.Value,
    past_length: ir.Value,
    attend_all: ir.Value,
    *,
    chunk_length: int,
    num_chunks_before: int,
) -> tuple[ir.Value, ...]:
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

    # The new token's rank, and the order that includes it.
    is_past = w.op("Less", tokens, position)
    before = w.op("And", w.op("LessOrEqual", past_buckets, bucket), is_past)
    before = w.op("Cast", before, to=ir.DataType.INT32)
    rank = w.op("ReduceSum", before, w.ints(3), name="rank", keepdims=1)
    present_order, present_starts = _inserted(w, past_order, past_starts, position, rank)

    # The tokens that the new token sees: [batch, heads, num_hashes, slots].
    reach = (num_chunks_before + 1) * chunk_length
    count = max(reach, chunk_length + 1)  # attend_all is for at most one chunk and the new token
    slots = w.iota(w.ints(count), "slots")
    length = w.op("Add", position, w.int32(1), name="length")
    chunks = w.op("Sub", w.op("Div", rank, chunk), w.int32(num_chunks_before))
    ranks = w.op("Mod", w.op("Add", w.op("Mul", chunks, chunk), slots), length, name="ranks")
    everything = w.op("Unsqueeze", attend_all, w.ints(1, 2, 3), name="attend_all")
    sorted_tokens = _tokens(w, present_order, present_starts, ranks)
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

    # Rounds are weighted by a softmax over their logsumexps. With attend_all there is one round.
    later_round = w.op("Greater", w.iota(w.size(buckets, 2)), w.int32(0))
    unused = w.op("And", w.op("Unsqueeze", later_round, w.ints(1)), everything)
    lse = w.op("Where", w.op("Unsqueeze", unused, w.ints(4)), w.float32(ABSENT), lse)
    top = w.op("ReduceMax", lse, w.ints(2), keepdims=1)
    total = w.op("ReduceSum", w.op("Exp", w.op("Sub", lse, top)), w.ints(2), keepdims=1)
    share = w.op("Exp", w.op("Sub", lse, w.op("Add", top, w.op("Log", total))), name="share")
    summed = w.op("ReduceSum", w.op("Mul", attended, share), w.ints(2, 3), keepdims=0)
    output = w.to_model_type(summed, name="output")
    return output, present_key, present_value, present_buckets, present_order, present_starts


def _tokens(w: OnnxWriter, order: ir.Value, starts: ir.Value, ranks: ir.Value) -> ir.Value:
    """The tokens at `ranks` `[batch, heads, num_hashes, count]`."""
    block_length = w.scalar_int32(w.size(order, 4))
    blocks = w.op("Div", ranks, block_length)
    slots = w.op("Add", w.op("GatherElements", starts, blocks, axis=3), ranks)
    slots = w.op("Add", w.op("Mul", blocks, block_length), w.op("Mod", slots, block_length))
    return w.op("GatherElements", w.op("Reshape", order, w.shape(0, 0, 0, -1)), slots, axis=3)


def _inserted(
    w: OnnxWriter, order: ir.Value, starts: ir.Value, position: ir.Value, rank: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Order and starts with the new token, number `position`, at `rank`."""
    block_length = w.scalar_int32(w.size(order, 4))
    blocks = w.iota(w.size(order, 3), "blocks")
    later = w.op("Greater", blocks, w.op("Div", rank, block_length))
    used = w.op("LessOrEqual", blocks, w.op("Div", position, block_length))
    grows = w.op("Cast", w.op("And", later, used), to=ir.DataType.INT32)
    moved = w.op("Add", w.op("Sub", starts, grows), block_length)
    present_starts = w.op("Mod", moved, block_length, name="present_starts")
    # The rank at each slot, and the past token at this rank or at the previous one.
    slots = w.op("Add", w.iota(w.size(order, 4), "slots_of_block"), block_length)
    within = w.op("Sub", slots, w.op("Unsqueeze", present_starts, w.ints(4)))
    within = w.op("Mod", within, block_length)
    firsts = w.op("Unsqueeze", w.op("Mul", blocks, block_length), w.ints(1))
    lines = w.shape(0, 0, 0, -1)
    ranks = w.op("Reshape", w.op("Add", firsts, within), lines, name="ranks_of_slots")
    after = w.op("Cast", w.op("Greater", ranks, rank), to=ir.DataType.INT32)
    tokens = _tokens(w, order, starts, w.op("Sub", ranks, after))
    tokens = w.op("Where", w.op("Equal", ranks, rank), position, tokens)
    unused = w.op("Greater", ranks, position)
    tokens = w.op("Where", unused, w.op("Reshape", order, lines), tokens)
    present_order = w.op("Reshape", tokens, w.op("Shape", order), name="present_order")
    return present_order, present_starts
