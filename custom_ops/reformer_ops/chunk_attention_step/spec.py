"""Declaration of `ChunkAttentionStep`."""

from __future__ import annotations

from reformer_ops.core.spec import Operand, OpSpec
from reformer_ops.core.step_spec import CHUNKING, OUTPUT, PAST_LENGTH, ROW

_WINDOW = ("batch", "window", "heads", "head_dim")

CHUNK_ATTENTION_STEP = OpSpec(
    name="ChunkAttentionStep",
    torch_name="chunk_attention_step",
    version=1,
    inputs=(
        Operand("query", ROW, "float"),
        Operand("key", ROW, "float"),
        Operand("value", ROW, "float"),
        Operand("past_key", _WINDOW, "float"),
        Operand("past_value", _WINDOW, "float"),
        PAST_LENGTH,
    ),
    attributes=CHUNKING,
    outputs=(
        OUTPUT,
        Operand("present_key", _WINDOW, "float"),
        Operand("present_value", _WINDOW, "float"),
    ),
)
