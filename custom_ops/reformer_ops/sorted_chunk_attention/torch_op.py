"""`torch.ops.reformer.sorted_chunk_attention`: the portable implementation and registration."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from reformer_ops.attention_masks import ABSENT, KEY_NORM_EPSILON, MASKED, SELF
from reformer_ops.chunk_attention.torch_op import Ring, softmax_attend
from reformer_ops.sorted_chunk_attention.spec import SORTED_CHUNK_ATTENTION
from reformer_ops.torch_library import (
    call_with_dropout,
    check_chunking,
    check_operands,
    register,
    whole_chunks,
)


def _check(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> None:
    op = SORTED_CHUNK_ATTENTION
    check_operands(op, query_key, value, buckets, mask)
    op.check_attributes(
        num_buckets=num_buckets,
        chunk_length=chunk_length,
        num_chunks_before=num_chunks_before,
        num_chunks_after=num_chunks_after,
        causal=causal,
    )
    check_chunking(op, query_key.shape[1], chunk_length)


def _portable(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    dropout: float = 0.0,
) -> torch.Tensor:
    batch, length, heads, head_dim = query_key.shape
    rounds = buckets.shape[2]
    chunks, padding = whole_chunks(length, chunk_length)
    padded = chunks * chunk_length
    # A short sequence is padded to a chunk of which only its own slots exist, and only the first
    # round of it counts. The order does not matter within one chunk.
    ring = Ring(rounds * chunks, num_chunks_before, num_chunks_after, value.device)
    place = torch.arange(padded, device=value.device).repeat(rounds)
    present = ring.present((place < length).reshape(-1, chunk_length), chunks)

    # The heads join the batch, so that axis 1 counts chunks: those of all rounds form one ring.
    order = torch.sort(buckets, dim=-1, stable=True).indices
    order = order.reshape(batch * heads, rounds, length)
    slots = functional.pad(order, (0, padding)).reshape(batch * heads, rounds * padded)

    def gathered(tensor: torch.Tensor) -> torch.Tensor:
        rows = tensor.transpose(1, 2).reshape(batch * heads, length, head_dim)
        index = slots[..., None].expand(-1, -1, head_dim)
        return torch.gather(rows, 1, index).reshape(batch * heads, -1, chunk_length, head_dim)

    queries, values = gathered(query_key), gathered(value)
    norm_input = queries.to(torch.float32)
    mean_square = norm_input.square().mean(dim=-1, keepdim=True)
    keys = norm_input * torch.rsqrt(mean_square + KEY_NORM_EPSILON) / math.sqrt(head_dim)
    keys = ring.adjacent(keys.to(queries.dtype), 1)
    values = ring.adjacent(values, 1)

    positions = slots.reshape(batch * heads, -1, chunk_length)
    valid = torch.gather(mask.repeat_interleave(heads, dim=0), 1, slots).reshape(positions.shape)
    key_positions = ring.adjacent(positions, 1)[..., None, :]
    allowed = ring.adjacent(valid, 1)[..., None, :]
    positions = positions[..., :, None]
    if causal:
        allowed = allowed & (positions >= key_positions)
    scores = (queries @ keys.transpose(-1, -2)).to(torch.float32)
    scores = scores.masked_fill_(~allowed, MASKED).masked_fill_(positions == key_positions, SELF)
    scores = scores.masked_fill_(~present[:, None, :], ABSENT)
    output, lse = softmax_attend(scores, values, dropout)

    undo = torch.empty_like(order).scatter_(
        2, order, torch.arange(length, device=order.device).expand_as(order)
    )
    output = output.reshape(batch * heads, rounds, padded, head_dim)
    output = torch.gather(output, 2, undo[..., None].expand(-1, -1, -1, head_dim))
    if rounds > 1:
        lse = torch.gather(lse.reshape(batch * heads, rounds, padded), 2, undo)
        later_round = torch.arange(rounds, device=lse.device) > 0
        unused = later_round.to(torch.int64) * chunks == 1
        lse = lse.masked_fill(unused[:, None], ABSENT)
        share = torch.exp(lse - torch.logsumexp(lse, dim=1, keepdim=True))
        output = output.to(torch.float32) * share[..., None]
    output = output.sum(dim=1).to(value.dtype)
    return output.reshape(batch, heads, length, head_dim).transpose(1, 2).contiguous()


def _fake(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> torch.Tensor:
    return torch.empty_like(value, memory_format=torch.contiguous_format)


register(SORTED_CHUNK_ATTENTION, _check, _portable, _fake)


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
    dropout: float = 0.0,
) -> torch.Tensor:
    """Shared-QK attention along the bucket-sorted sequence: `reference.sorted_chunk_attention`.

    Args:
        query_key, value: `[batch, length, heads, head_dim]` fp32, fp16 or bf16; `length` at most
            `chunk_length` or a multiple of it. Key norms, scores, softmax and the sum over the
            rounds are fp32.
        buckets: `[batch, heads, num_hashes, length]` int32 in `0..num_buckets`.
        mask: `[batch, length]` bool, False for padding.
        dropout: of the probabilities, in training (`call_with_dropout`).

    Returns:
        `[batch, length, heads, head_dim]` of the inputs' type.

    Raises:
        OpError: shapes, types or attributes do not fit.
    """
    return call_with_dropout(
        SORTED_CHUNK_ATTENTION,
        dropout,
        query_key,
        value,
        buckets,
        mask,
        num_buckets,
        chunk_length,
        num_chunks_before,
        num_chunks_after,
        causal,
    )
