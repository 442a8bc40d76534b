"""One small case of each operator, for tests that work with any case."""

from __future__ import annotations

from reformer_ops.chunk_attention.cases import make_case as make_chunk_attention
from reformer_ops.core.cases import Case
from reformer_ops.lsh_bucket.cases import make_case as make_lsh_bucket
from reformer_ops.sorted_chunk_attention.cases import make_case as make_sorted_chunk_attention

EXAMPLES: dict[str, Case] = {
    "LshBucket": make_lsh_bucket(
        batch=2, length=12, heads=3, head_dim=5, num_hashes=2, factors=(4, 6), mask="ragged"
    ),
    "SortedChunkAttention": make_sorted_chunk_attention(
        batch=2,
        length=12,
        heads=3,
        head_dim=5,
        num_hashes=2,
        num_buckets=6,
        chunk_length=4,
        after=1,
        mask="ragged",
    ),
    "ChunkAttention": make_chunk_attention(
        batch=2, length=12, heads=3, head_dim=5, chunk_length=4, after=1, mask="ragged"
    ),
}
