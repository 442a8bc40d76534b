"""The torch operators: importing this module registers all of `torch.ops.reformer`."""

from __future__ import annotations

from reformer_ops.chunk_attention.torch_op import chunk_attention
from reformer_ops.chunk_attention_step.torch_op import chunk_attention_step
from reformer_ops.feed_forward_add.torch_op import feed_forward_add
from reformer_ops.int4_feed_forward_add.torch_op import int4_feed_forward_add
from reformer_ops.int4_linear.torch_op import int4_linear
from reformer_ops.int8_feed_forward_add.torch_op import int8_feed_forward_add
from reformer_ops.int8_linear.torch_op import int8_linear
from reformer_ops.layer_norm_linear.torch_op import layer_norm_linear
from reformer_ops.linear_add.torch_op import linear_add
from reformer_ops.lsh_bucket.torch_op import lsh_bucket
from reformer_ops.sorted_chunk_attention.torch_op import sorted_chunk_attention
from reformer_ops.sorted_chunk_attention_step.torch_op import sorted_chunk_attention_step

__all__ = [
    "chunk_attention",
    "chunk_attention_step",
    "feed_forward_add",
    "int4_feed_forward_add",
    "int4_linear",
    "int8_feed_forward_add",
    "int8_linear",
    "layer_norm_linear",
    "linear_add",
    "lsh_bucket",
    "sorted_chunk_attention",
    "sorted_chunk_attention_step",
]
