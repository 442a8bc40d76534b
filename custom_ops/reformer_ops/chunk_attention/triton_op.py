"""`ChunkAttention` on CUDA tensors, and its gradients."""

from __future__ import annotations

from typing import Any

import torch

from reformer_ops.chunk_attention import triton_kernel
from reformer_ops.triton.attention_backward import attention_backward
from reformer_ops.triton.torch import as_bytes, delta_of, on_device_of, target_of, type_of


def chunk_attention(*arguments: Any) -> torch.Tensor:
    """The same as the torch operator, but the operands are already checked."""
    output, _ = _attend(*arguments)
    return output


def chunk_attention_with_lse(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    seed: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and the logsumexps `[batch, heads, length]`, fp32."""
    batch, length, heads, _ = query.shape
    lse = query.new_empty((batch, heads, length), dtype=torch.float32)
    chunking = (chunk_length, num_chunks_before, num_chunks_after, causal)
    return _attend(query, key, value, mask, *chunking, lse=lse, seed=seed, dropout=dropout)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    *,
    lse: torch.Tensor | None = None,
    seed: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, Any]:
    """One launch; it fills `lse` if there is one."""
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
        trains=lse is not None,
        dropout=dropout,
    )
    with on_device_of(query):
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        launch.run(
            {
                "query": query.contiguous(),
                "key": key.contiguous(),
                "value": value.contiguous(),
                "mask": as_bytes(mask),
                "seed": seed,
                "output": output,
                "lse": lse,
            },
            batch=batch,
            length=length,
        )
    return output, lse


def chunk_attention_backward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    seed: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    gradient: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of query, key and value, in two launches."""
    batch, length, heads, head_dim = query.shape
    launches = attention_backward(
        dtype=type_of(query),
        heads=heads,
        head_dim=head_dim,
        num_hashes=None,
        chunk_length=chunk_length,
        num_chunks_before=num_chunks_before,
        num_chunks_after=num_chunks_after,
        causal=causal,
        dropout=dropout,
        target=target_of(query),
    )
    names = ("query_gradient", "key_gradient", "value_gradient")
    with on_device_of(query):
        results = [torch.empty(query.shape, dtype=query.dtype, device=query.device) for _ in names]
        tensors = {
            "query": query.contiguous(),
            "key": key.contiguous(),
            "value": value.contiguous(),
            "mask": as_bytes(mask),
            "seed": seed,
            "lse": lse.contiguous(),
            "delta": delta_of(output, gradient),
            "gradient": gradient.contiguous(),
            **dict(zip(names, results, strict=True)),
        }
        for launch in launches:
            launch.run(tensors, batch=batch, length=length)
    return results[0], results[1], results[2]
