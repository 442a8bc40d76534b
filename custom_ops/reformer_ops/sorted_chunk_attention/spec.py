"""Declaration of `SortedChunkAttention`."""

from __future__ import annotations

from reformer_ops.core.attention_spec import CHUNKING, HEADS, MASK, OUTPUT
from reformer_ops.core.spec import Attribute, Operand, OpSpec

SORTED_CHUNK_ATTENTION = OpSpec(
    name="SortedChunkAttention",
    torch_name="sorted_chunk_attention",
    version=1,
    inputs=(
        Operand("query_key", HEADS, "float"),
        Operand("value", HEADS, "float"),
        Operand("buckets", ("batch", "heads", "num_hashes", "length"), "int32"),
        MASK,
    ),
    attributes=(Attribute("num_buckets", "int", minimum=1), *CHUNKING),
    outputs=(OUTPUT,),
)
