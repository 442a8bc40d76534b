"""The operators in plain PyTorch: whole score matrices in the model's own type.

Their error is the yardstick of the flash-attention rule. They are also another algorithm: they do
not sort rows or cut chunks, but count how often each query sees each key.
"""

from __future__ import annotations

import math

import torch

from reformer_ops.core.attention_masks import KEY_NORM_EPSILON, MASKED, SELF
from reformer_ops.core.dropout_masks import factors


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
    seed: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    batch, length, heads, head_dim = query.shape
    if length <= chunk_length:
        times = torch.ones(length, length, dtype=torch.int64)
    else:
        chunk = torch.arange(length) // chunk_length
        times = _times_seen(
            chunk, chunk, length // chunk_length, num_chunks_before, num_chunks_after
        )
    queries, keys, values = (t.transpose(1, 2) for t in (query, key / math.sqrt(head_dim), value))
    scores = _widened(queries @ keys.mT)
    scores = scores.masked_fill(~_allowed(mask, causal), MASKED)
    kept = times
    if seed is not None:
        rows = torch.arange(batch * heads * length).reshape(batch, heads, length, 1)
        kept = times * factors(seed, rows, torch.arange(length), dropout, scores.dtype)
    output, _ = _attend(scores, times, kept, values)
    return output.transpose(1, 2)


def sorted_chunk_attention(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    *,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    seed: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    batch, length, heads, head_dim = query_key.shape
    if length <= chunk_length:
        seen = [torch.ones(1, length, length, dtype=torch.int64)]
    else:
        slot = buckets.argsort(dim=-1, stable=True).argsort(dim=-1)
        per_round, rounds = length // chunk_length, buckets.shape[2]
        chunk = slot // chunk_length + per_round * torch.arange(rounds)[:, None]
        # A query may see keys of any round, because the chunks of all rounds form one ring.
        seen = [
            _times_seen(chunk, other, rounds * per_round, num_chunks_before, num_chunks_after)
            for other in chunk.split(1, dim=2)
        ]
    times = torch.stack(seen).sum(dim=0)
    queries, values = (t.transpose(1, 2)[:, :, None] for t in (query_key, value))
    wide = _widened(queries)
    mean_square = wide.square().mean(dim=-1, keepdim=True)
    keys = (wide / (mean_square + KEY_NORM_EPSILON).sqrt() / math.sqrt(head_dim)).to(queries.dtype)
    scores = _widened(queries @ keys.mT)
    scores = scores.masked_fill(~_allowed(mask, causal)[:, :, None], MASKED)
    scores = scores.masked_fill(torch.eye(length, dtype=torch.bool), SELF)
    kept = times
    if seed is not None:
        rounds = times.shape[-3]
        rows = torch.arange(rounds * batch * heads * length)
        rows = rows.reshape(rounds, batch, heads, length, 1).movedim(0, 2)
        columns = torch.arange(len(seen) * length).split(length)
        kept = sum(
            count * factors(seed, rows, column, dropout, scores.dtype)
            for count, column in zip(seen, columns, strict=True)
        )
    output, lse = _attend(scores, times, kept, values)
    share = torch.exp(lse - _in_float32(torch.logsumexp(lse, dim=2, keepdim=True)))
    return (output * share.to(output.dtype)).sum(dim=2).transpose(1, 2)


def _times_seen(
    query_chunk: torch.Tensor, key_chunk: torch.Tensor, count: int, before: int, after: int
) -> torch.Tensor:
    """`[..., queries, keys]`: how often each key is in the chunks that a query sees."""
    shifts = [shift if abs(shift) < count else 0 for shift in range(-before, after + 1)]
    looked_at = torch.stack([(query_chunk + shift) % count for shift in shifts], dim=-1)
    return (looked_at[..., None] == key_chunk[..., None, None, :]).sum(dim=-2)


def _allowed(mask: torch.Tensor, causal: bool) -> torch.Tensor:
    """`[batch, 1, queries, keys]`: True if the query may see the key."""
    allowed = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
    return allowed.tril() if causal else allowed


def _attend(
    scores: torch.Tensor, times: torch.Tensor, kept: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`kept` is `times`, or `times` after dropout."""
    scores = scores.masked_fill(times == 0, -torch.inf)
    top = scores.amax(dim=-1, keepdim=True)
    total = (times * torch.exp(scores - top)).sum(dim=-1, keepdim=True)
    lse = _in_float32(top + torch.log(total))
    return (kept * torch.exp(scores - lse)).to(values.dtype) @ values, lse


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in fp32, or in fp64 if it has this type already."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)


def _in_float32(lse: torch.Tensor) -> torch.Tensor:
    """The values rounded to fp32, in the type of `lse`."""
    return lse.to(torch.float32).to(lse.dtype)
