"""Declaration of `SortedChunkAttention`."""

from __future__ import annotations

from reformer_ops.core.spec import Attribute, Operand, OpSpec

SORTED_CHUNK_ATTENTION = OpSpec(
    name="SortedChunkAttention",
    torch_name="sorted_chunk_attention",
    version=1,
    inputs=(
        Operand("query_key", ("batch", "length", "heads", "head_dim"), "float"),
        Operand("value", ("batch", "length", "heads", "head_dim"), "float"),
        Operand("buckets", ("batch", "heads", "num_hashes", "length"), "int32"),
        Operand("mask", ("batch", "length"), "bool"),
    ),
    attributes=(
        Attribute("num_buckets", "int", minimum=1),
        Attribute("chunk_length", "int", minimum=1),
        Attribute("num_chunks_before", "int"),
        Attribute("num_chunks_after", "int"),
        Attribute("causal", "bool"),
    ),
    outputs=(Operand("output", ("batch", "length", "heads", "head_dim"), "float"),),
)
