"""The torch operators: importing this module registers all of `torch.ops.reformer`."""

from __future__ import annotations

from reformer_ops.chunk_attention.torch_op import chunk_attention
from reformer_ops.chunk_attention_step.torch_op import chunk_attention_step
from reformer_ops.int8_linear.torch_op import int8_linear
from reformer_ops.lsh_bucket.torch_op import lsh_bucket
from reformer_ops.sorted_chunk_attention.torch_op import sorted_chunk_attention
from reformer_ops.sorted_chunk_attention_step.torch_op import sorted_chunk_attention_step

__all__ = [
    "chunk_attention",
    "chunk_attention_step",
    "int8_linear",
    "lsh_bucket",
    "sorted_chunk_attention",
    "sorted_chunk_attention_step",
]
