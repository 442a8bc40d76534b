"""Declaration of `ChunkAttention`."""

from __future__ import annotations

from reformer_ops.core.attention_spec import CHUNKING, HEADS, MASK, OUTPUT
from reformer_ops.core.spec import Operand, OpSpec

CHUNK_ATTENTION = OpSpec(
    name="ChunkAttention",
    torch_name="chunk_attention",
    version=1,
    inputs=(
        Operand("query", HEADS, "float"),
        Operand("key", HEADS, "float"),
        Operand("value", HEADS, "float"),
        MASK,
    ),
    attributes=CHUNKING,
    outputs=(OUTPUT,),
)
