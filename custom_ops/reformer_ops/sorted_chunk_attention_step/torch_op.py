"""`torch.ops.reformer.sorted_chunk_attention_step`: portable implementation and registration."""

from __future__ import annotations

import math
from typing import Any

import torch

from reformer_ops.chunk_attention.torch_op import softmax_attend
from reformer_ops.core.attention_masks import ABSENT, KEY_NORM_EPSILON, SELF
from reformer_ops.core.torch_library import call_step, check_operands, register_step, wide
from reformer_ops.sorted_chunk_attention_step.spec import SORTED_CHUNK_ATTENTION_STEP

Outputs = tuple[torch.Tensor, ...]


def _check(*arguments: Any) -> None:
    tensors, (chunk_length, num_chunks_before) = arguments[:10], arguments[10:]
    check_operands(SORTED_CHUNK_ATTENTION_STEP, *tensors)
    SORTED_CHUNK_ATTENTION_STEP.check_attributes(
        chunk_length=chunk_length, num_chunks_before=num_chunks_before
    )


def _portable(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    past_key: torch.Tensor,
    past_value: torch.Tensor,
    past_buckets: torch.Tensor,
    past_order: torch.Tensor,
    past_starts: torch.Tensor,
    past_length: torch.Tensor,
    attend_all: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
) -> Outputs:
    batch, capacity, heads, head_dim = past_key.shape
    device = query_key.device
    tokens = torch.arange(capacity, dtype=torch.int32, device=device)
    position = past_length[:, None, None, None]
    is_new, bucket = tokens == position, buckets[..., None]
    is_new_row = is_new.reshape(batch, capacity, 1, 1)
    present_key = torch.where(is_new_row, query_key[:, None], past_key)
    present_value = torch.where(is_new_row, value[:, None], past_value)
    present_buckets = torch.where(is_new, bucket, past_buckets)

    before = (past_buckets <= bucket) & (tokens < position)
    rank = before.sum(dim=-1, keepdim=True, dtype=torch.int32)
    present_order, present_starts = _inserted(past_order, past_starts, position, rank)

    # The tokens that the new token sees: [batch, heads, num_hashes, slots].
    reach = (num_chunks_before + 1) * chunk_length
    slots = torch.arange(max(reach, chunk_length + 1), dtype=torch.int32, device=device)
    first = (rank // chunk_length - num_chunks_before) * chunk_length
    sorted_tokens = _tokens(present_order, present_starts, (first + slots) % (position + 1))
    everything = attend_all[:, None, None, None]
    seen = torch.where(everything, torch.minimum(slots, position), sorted_tokens).long()
    exists = slots < torch.where(everything, position + 1, reach)

    row = torch.arange(batch, device=device)[:, None, None, None]
    head = torch.arange(heads, device=device)[:, None, None]
    keys = present_key[row, seen, head].to(wide(query_key.dtype))
    root = torch.sqrt(keys.square().mean(dim=-1, keepdim=True) + KEY_NORM_EPSILON)
    keys = (keys / (root * math.sqrt(head_dim))).to(query_key.dtype)
    scores = (keys @ query_key[:, :, None, :, None]).squeeze(-1).to(wide(query_key.dtype))
    scores = scores.masked_fill(seen == position, SELF).masked_fill(~exists, ABSENT)
    output, lse = softmax_attend(scores[..., None, :], present_value[row, seen, head])
    later_round = torch.arange(buckets.shape[2], device=device)[:, None] > 0
    lse = lse.masked_fill((everything & later_round)[..., None], ABSENT)
    share = torch.exp(lse - torch.logsumexp(lse, dim=2, keepdim=True))
    combined = (output * share).sum(dim=(2, 3)).to(query_key.dtype)
    return combined, present_key, present_value, present_buckets, present_order, present_starts


def _tokens(order: torch.Tensor, starts: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
    """The tokens at `ranks` `[batch, heads, num_hashes, count]`."""
    block_length = order.shape[-1]
    blocks = ranks // block_length
    slots = (starts.gather(-1, blocks.long()) + ranks) % block_length
    return order.flatten(-2).gather(-1, (blocks * block_length + slots).long())


def _inserted(
    order: torch.Tensor, starts: torch.Tensor, position: torch.Tensor, rank: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Order and starts with the new token, number `position`, at `rank`."""
    block_length = order.shape[-1]
    blocks = torch.arange(order.shape[-2], dtype=torch.int32, device=order.device)
    grows = (blocks > rank // block_length) & (blocks <= position // block_length)
    present_starts = (starts + block_length - grows.to(torch.int32)) % block_length
    # The rank at each slot, and the past token at this rank or at the previous one.
    slots = torch.arange(block_length, dtype=torch.int32, device=order.device)
    within = (slots + block_length - present_starts[..., None]) % block_length
    ranks = (blocks[:, None] * block_length + within).flatten(-2)
    tokens = _tokens(order, starts, ranks - (ranks > rank).to(torch.int32))
    tokens = torch.where(ranks == rank, position, tokens)
    present_order = torch.where(ranks > position, order.flatten(-2), tokens)
    return present_order.unflatten(-1, order.shape[-2:]), present_starts


def _fake(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    *pasts_and_attributes: Any,
) -> Outputs:
    presents = (torch.empty_like(past) for past in pasts_and_attributes[:5])
    return torch.empty_like(query_key), *presents


register_step(SORTED_CHUNK_ATTENTION_STEP, _check, _portable, _fake)


def sorted_chunk_attention_step(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    past_key: torch.Tensor,
    past_value: torch.Tensor,
    past_buckets: torch.Tensor,
    past_order: torch.Tensor,
    past_starts: torch.Tensor,
    past_length: torch.Tensor,
    attend_all: torch.Tensor,
    *,
    chunk_length: int,
    num_chunks_before: int,
    in_place: bool = False,
) -> tuple[torch.Tensor, ...]:
    """One new token attends to the tokens around its place in the sorted sequence.

    `reference.sorted_chunk_attention_step` is the definition.

    Args:
        query_key, value: `[batch, heads, head_dim]` fp32, fp16 or bf16.
        buckets: `[batch, heads, num_hashes]` int32.
        past_key, past_value: `[batch, capacity, heads, head_dim]`.
        past_buckets: `[batch, heads, num_hashes, capacity]` int32.
        past_order: `[batch, heads, num_hashes, blocks, block_length]` int32.
        past_starts: `[batch, heads, num_hashes, blocks]` int32.
        past_length: `[batch]` int32.
        attend_all: `[batch]` bool.
        in_place: write into the given cache and return it. The native kernels need a contiguous
            cache in fp32 or fp16.

    Returns:
        The output `[batch, heads, head_dim]`, and the cache with the new token in it: keys, values,
        buckets, order, starts.

    Raises:
        OpError: shapes, types or attributes do not fit.
    """
    return call_step(
        SORTED_CHUNK_ATTENTION_STEP,
        query_key,
        value,
        buckets,
        past_key,
        past_value,
        past_buckets,
        past_order,
        past_starts,
        past_length,
        attend_all,
        chunk_length,
        num_chunks_before,
        in_place=in_place,
    )
