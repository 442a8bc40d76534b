"""Declaration of `ChunkAttention`."""

from __future__ import annotations

from reformer_ops.core.spec import Attribute, Operand, OpSpec

CHUNK_ATTENTION = OpSpec(
    name="ChunkAttention",
    torch_name="chunk_attention",
    version=1,
    inputs=(
        Operand("query", ("batch", "length", "heads", "head_dim"), "float"),
        Operand("key", ("batch", "length", "heads", "head_dim"), "float"),
        Operand("value", ("batch", "length", "heads", "head_dim"), "float"),
        Operand("mask", ("batch", "length"), "bool"),
    ),
    attributes=(
        Attribute("chunk_length", "int", minimum=1),
        Attribute("num_chunks_before", "int"),
        Attribute("num_chunks_after", "int"),
        Attribute("causal", "bool"),
    ),
    outputs=(Operand("output", ("batch", "length", "heads", "head_dim"), "float"),),
)
