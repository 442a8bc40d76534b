"""Sizes of models that are worth comparing: the published ones, and a small one."""

from __future__ import annotations

from typing import Any

# The published shapes, with a seed for the hash.
CRIME_AND_PUNISHMENT: dict[str, Any] = {
    "attention_head_size": 64,
    "attn_layers": ["local", "lsh"] * 3,
    "axial_pos_embds_dim": [64, 192],
    "axial_pos_shape": [512, 1024],
    "feed_forward_size": 512,
    "hash_seed": 0,
    "hidden_size": 256,
    "is_decoder": True,
    "local_attn_chunk_length": 64,
    "lsh_attn_chunk_length": 64,
    "max_position_embeddings": 524288,
    "num_attention_heads": 2,
    "num_buckets": [64, 128],
    "num_hashes": 1,
    "vocab_size": 320,
}
# The first 4 of 12 layers.
ENWIK8_CUT: dict[str, Any] = {
    "attention_head_size": 128,
    "attn_layers": ["local", "local", "lsh", "local"],
    "axial_pos_embds_dim": [256, 768],
    "axial_pos_shape": [128, 512],
    "feed_forward_size": 4096,
    "hash_seed": 0,
    "hidden_size": 1024,
    "is_decoder": True,
    "local_attn_chunk_length": 128,
    "lsh_attn_chunk_length": 256,
    "max_position_embeddings": 65536,
    "num_attention_heads": 8,
    "num_buckets": 512,
    "num_hashes": 4,
    "vocab_size": 258,
}
# Small, with short chunks of two lengths, and more than one of everything.
SMALL: dict[str, Any] = {
    "attention_head_size": 6,
    "attn_layers": ["local", "lsh", "local", "lsh"],
    "axial_pos_embds_dim": [4, 8],
    "axial_pos_shape": [8, 16],
    "feed_forward_size": 20,
    "hash_seed": 3,
    "hidden_size": 12,
    "is_decoder": True,
    "local_attn_chunk_length": 4,
    "lsh_attn_chunk_length": 6,
    "max_position_embeddings": 128,
    "num_attention_heads": 2,
    "num_buckets": [4, 6],
    "num_hashes": 2,
    "vocab_size": 40,
}
# The same with sizes that are multiples of 16, so that the exporter makes one node of half a layer.
WIDE: dict[str, Any] = {
    **SMALL,
    "attention_head_size": 16,
    "axial_pos_embds_dim": [12, 20],
    "feed_forward_size": 48,
    "hidden_size": 32,
}
