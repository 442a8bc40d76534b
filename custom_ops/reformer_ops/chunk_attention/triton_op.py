"""`ChunkAttention` on CUDA tensors: one launch."""

from __future__ import annotations

import torch

from reformer_ops.chunk_attention import triton_kernel
from reformer_ops.triton.torch import as_bytes, on_device_of, target_of, type_of


def chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> torch.Tensor:
    """The same as the torch operator, but the operands are already checked."""
    batch, length, heads, head_dim = query.shape
    launch = triton_kernel.chunk_attention(
        dtype=type_of(query),
        heads=heads,
        head_dim=head_dim,
        chunk_length=chunk_length,
        num_chunks_before=num_chunks_before,
        num_chunks_after=num_chunks_after,
        causal=causal,
        target=target_of(query),
    )
    with on_device_of(query):
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        launch.run(
            {
                "query": query.contiguous(),
                "key": key.contiguous(),
                "value": value.contiguous(),
                "mask": as_bytes(mask),
                "output": output,
            },
            batch=batch,
            length=length,
        )
    return output
