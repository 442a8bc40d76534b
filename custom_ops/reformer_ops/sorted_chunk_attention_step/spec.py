"""Declaration of `SortedChunkAttentionStep`."""

from __future__ import annotations

from reformer_ops.core.spec import Operand, OpSpec
from reformer_ops.core.step_spec import CHUNKING, OUTPUT, PAST_LENGTH, ROW

_TOKENS = ("batch", "capacity", "heads", "head_dim")
_ROUNDS = ("batch", "heads", "num_hashes", "capacity")
_STARTS = ("batch", "heads", "num_hashes", "blocks")
_ORDER = (*_STARTS, "block_length")

SORTED_CHUNK_ATTENTION_STEP = OpSpec(
    name="SortedChunkAttentionStep",
    torch_name="sorted_chunk_attention_step",
    version=2,
    inputs=(
        Operand("query_key", ROW, "float"),
        Operand("value", ROW, "float"),
        Operand("buckets", ("batch", "heads", "num_hashes"), "int32"),
        Operand("past_key", _TOKENS, "float"),
        Operand("past_value", _TOKENS, "float"),
        Operand("past_buckets", _ROUNDS, "int32"),
        Operand("past_order", _ORDER, "int32"),
        Operand("past_starts", _STARTS, "int32"),
        PAST_LENGTH,
        Operand("attend_all", ("batch",), "bool"),
    ),
    attributes=CHUNKING,
    outputs=(
        OUTPUT,
        Operand("present_key", _TOKENS, "float"),
        Operand("present_value", _TOKENS, "float"),
        Operand("present_buckets", _ROUNDS, "int32"),
        Operand("present_order", _ORDER, "int32"),
        Operand("present_starts", _STARTS, "int32"),
    ),
)
