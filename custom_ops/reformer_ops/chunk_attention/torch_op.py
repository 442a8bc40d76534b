"""`torch.ops.reformer.chunk_attention`: the portable implementation and its registration."""

from __future__ import annotations

import math

import torch

from reformer_ops.attention_masks import MASKED
from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION
from reformer_ops.torch_library import call, check_chunking, check_operands, register


def look_adjacent(chunks: torch.Tensor, before: int, after: int, *, dim: int) -> torch.Tensor:
    """Chunks along axis 1 with their neighbours appended along `dim`; they form a ring.

    A reach of more than the whole ring stands still (`reference.look_adjacent`).
    """
    if not before and not after:
        return chunks
    count = chunks.shape[1]
    shifts = [shift if abs(shift) < count else 0 for shift in range(-before, after + 1)]
    return torch.cat([torch.roll(chunks, -shift, dims=1) for shift in shifts], dim=dim)


def softmax_attend(scores: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`exp(scores - lse) @ values` and `lse[..., None]`; scores and lse are fp32."""
    lse = torch.logsumexp(scores, dim=-1, keepdim=True)
    return torch.exp(scores - lse).to(values.dtype) @ values, lse


def _check(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> None:
    sizes = check_operands(CHUNK_ATTENTION, query, key, value, mask)
    CHUNK_ATTENTION.check_attributes(
        chunk_length=chunk_length,
        num_chunks_before=num_chunks_before,
        num_chunks_after=num_chunks_after,
        causal=causal,
    )
    check_chunking(CHUNK_ATTENTION, sizes["length"], chunk_length)


def _portable(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> torch.Tensor:
    batch, length, heads, head_dim = query.shape
    size = min(chunk_length, length)
    before, after = (num_chunks_before, num_chunks_after) if length > chunk_length else (0, 0)

    def chunked(tensor: torch.Tensor) -> torch.Tensor:
        chunks = tensor.reshape(batch, -1, size, heads, head_dim)
        return chunks.transpose(2, 3)  # [batch, chunks, heads, size, head_dim]

    queries = chunked(query)
    keys = look_adjacent(chunked(key / math.sqrt(head_dim)), before, after, dim=3)
    values = look_adjacent(chunked(value), before, after, dim=3)
    allowed = look_adjacent(mask.reshape(batch, -1, size), before, after, dim=2)[:, :, None, None]
    if causal:
        positions = torch.arange(length, device=query.device).reshape(1, -1, size)
        key_positions = look_adjacent(positions, before, after, dim=2)
        past = positions[..., :, None] >= key_positions[..., None, :]
        allowed = allowed & past[:, :, None]
    scores = (queries @ keys.transpose(-1, -2)).to(torch.float32)
    scores = scores.masked_fill_(~allowed, MASKED)
    output, _ = softmax_attend(scores, values)
    return output.transpose(2, 3).reshape(query.shape).contiguous()  # as `_fake` promises


def _fake(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> torch.Tensor:
    return torch.empty_like(query, memory_format=torch.contiguous_format)


register(CHUNK_ATTENTION, _check, _portable, _fake)


def chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> torch.Tensor:
    """Softmax attention within chunks and their neighbours: `reference.chunk_attention`.

    Args:
        query, key, value: `[batch, length, heads, head_dim]` fp32, fp16 or bf16; `length` at most
            `chunk_length` or a multiple of it. Scores and softmax are fp32.
        mask: `[batch, length]` bool, False for padding.

    Returns:
        `[batch, length, heads, head_dim]` of the inputs' type.

    Raises:
        OpError: shapes, types or attributes do not fit.
    """
    return call(
        CHUNK_ATTENTION,
        query,
        key,
        value,
        mask,
        chunk_length,
        num_chunks_before,
        num_chunks_after,
        causal,
    )
