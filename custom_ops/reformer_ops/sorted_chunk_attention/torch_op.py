"""`torch.ops.reformer.sorted_chunk_attention`: the portable implementation and registration."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from reformer_ops.chunk_attention.torch_op import Ring, attend_backward, softmax_attend
from reformer_ops.core.attention_masks import ABSENT, KEY_NORM_EPSILON, MASKED, SELF
from reformer_ops.core.dropout_masks import factors
from reformer_ops.core.torch_library import (
    Gradients,
    call_with_dropout,
    check_attention,
    register,
    whole_chunks,
    wide,
)
from reformer_ops.sorted_chunk_attention.spec import SORTED_CHUNK_ATTENTION


class _SortedChunks:
    """The operands, sorted and cut into chunks, and the scores of each query for the keys it sees.

    Heads are part of the batch axis, so that axis 1 is the chunks; the chunks of all rounds form
    one ring. A short sequence is padded to one chunk, in which only its own slots exist, and only
    its first round counts. Within one chunk the order does not matter.
    """

    def __init__(
        self,
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
        self.batch, self.length, self.heads, self.head_dim = query_key.shape
        self.lines, self.rounds, self.size = self.batch * self.heads, buckets.shape[2], chunk_length
        self.count, padding = whole_chunks(self.length, chunk_length)
        self.padded = self.count * chunk_length
        device = value.device
        self.ring = Ring(self.rounds * self.count, num_chunks_before, num_chunks_after, device)
        place = torch.arange(self.padded, device=device).repeat(self.rounds)
        self.exists = (place < self.length).reshape(-1, chunk_length)
        present = self.ring.present(self.exists, self.count)[:, None, :]

        order = torch.sort(buckets, dim=-1, stable=True).indices
        self.order = order.reshape(self.lines, self.rounds, self.length)
        slots = functional.pad(self.order, (0, padding))
        self.slots = slots.reshape(self.lines, self.rounds * self.padded)

        self.queries, values = self.gather(query_key), self.gather(value)
        norm_input = self.queries.to(wide(query_key.dtype))
        mean_square = norm_input.square().mean(dim=-1, keepdim=True)
        self.inverse_norm = torch.rsqrt(mean_square + KEY_NORM_EPSILON)
        keys = norm_input * self.inverse_norm / math.sqrt(self.head_dim)
        self.keys = self.ring.adjacent(keys.to(self.queries.dtype), 1)
        self.values = self.ring.adjacent(values, 1)

        positions = self.slots.reshape(self.lines, -1, chunk_length)
        valid = torch.gather(mask.repeat_interleave(self.heads, dim=0), 1, self.slots)
        key_positions = self.ring.adjacent(positions, 1)[..., None, :]
        allowed = self.ring.adjacent(valid.reshape(positions.shape), 1)[..., None, :]
        positions = positions[..., :, None]
        if causal:
            allowed = allowed & (positions >= key_positions)
        itself = positions == key_positions
        scores = (self.queries @ self.keys.transpose(-1, -2)).to(norm_input.dtype)
        scores = scores.masked_fill_(~allowed, MASKED).masked_fill_(itself, SELF)
        self.scores = scores.masked_fill_(~present, ABSENT)
        self.allowed, self.itself, self.present = allowed, itself, present

    def _rows(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.transpose(1, 2).reshape(self.lines, self.length, self.head_dim)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """`[batch, length, heads, head_dim]` to `[lines, rounds * count, size, head_dim]`."""
        index = self.slots[..., None].expand(-1, -1, self.head_dim)
        rows = torch.gather(self._rows(tensor), 1, index)
        return rows.reshape(self.lines, -1, self.size, self.head_dim)

    def scatter(self, chunks: torch.Tensor) -> torch.Tensor:
        """The inverse of `gather`; results of all rounds are added."""
        index = self.slots[..., None].expand(-1, -1, self.head_dim)
        rows = chunks.new_zeros((self.lines, self.length, self.head_dim))
        rows.scatter_add_(1, index, chunks.reshape(index.shape))
        return self._join(rows)

    def _join(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.reshape(self.batch, self.heads, self.length, self.head_dim)
        return rows.transpose(1, 2).contiguous()  # as `_fake` promises

    def dropped(self, seed: torch.Tensor, dropout: float) -> torch.Tensor | None:
        """The dropout factors for `softmax_attend`; docs/ops.md defines rows and columns."""
        if dropout == 0:
            return None
        lines = torch.arange(self.lines, device=seed.device)[:, None]
        rounds = torch.arange(self.rounds * self.padded, device=seed.device) // self.padded
        shape = (self.lines, -1, self.size)
        rows = (rounds * self.lines + lines) * self.length + self.slots
        columns = self.ring.adjacent((rounds * self.length + self.slots).reshape(shape), 1)
        rows, columns = rows.reshape(shape)[..., :, None], columns[..., None, :]
        return factors(seed, rows, columns, dropout, self.scores.dtype)

    def attend(self, dropped: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the output, and the logsumexp over all rounds, `[lines, 1, length]`."""
        output, lse = softmax_attend(self.scores, self.values, dropped)
        places = torch.arange(self.length, device=self.order.device).expand_as(self.order)
        undo = torch.empty_like(self.order).scatter_(2, self.order, places)
        output = output.reshape(self.lines, self.rounds, self.padded, self.head_dim)
        output = torch.gather(output, 2, undo[..., None].expand(-1, -1, -1, self.head_dim))
        lse = torch.gather(lse.reshape(self.lines, self.rounds, self.padded), 2, undo)
        if self.rounds > 1:
            later_round = torch.arange(self.rounds, device=lse.device) > 0
            unused = later_round.to(torch.int64) * self.count == 1
            rounds = lse.masked_fill(unused[:, None], ABSENT)
            lse = torch.logsumexp(rounds, dim=1, keepdim=True)
            output = output.to(lse.dtype) * torch.exp(rounds - lse)[..., None]
        return self._join(output.sum(dim=1).to(self.values.dtype)), lse

    def query_lse(self, lse: torch.Tensor) -> torch.Tensor:
        """The `lse` of every query, `[lines, rounds * count, size, 1]`; inf for unused slots.

        Slots are unused past the end of a short sequence, and in its rounds after the first.
        """
        gathered = torch.gather(lse.reshape(self.lines, self.length), 1, self.slots)
        gathered = gathered.reshape(self.lines, -1, self.size)
        round_number = torch.arange(self.rounds * self.count, device=lse.device) // self.count
        used = self.exists & ((self.count > 1) | (round_number == 0))[:, None]
        return gathered.masked_fill(~used, math.inf)[..., None]

    def over_rounds(self, row_sums: torch.Tensor) -> torch.Tensor:
        """`[lines, rounds * count, size, 1]`: the sum over the rounds, for each slot."""
        positions = row_sums.new_zeros((self.lines, self.length))
        positions.scatter_add_(1, self.slots, row_sums.reshape(self.slots.shape))
        return torch.gather(positions, 1, self.slots).reshape(row_sums.shape)


def _portable(*arguments: Any) -> torch.Tensor:
    output, _ = _SortedChunks(*arguments).attend()
    return output


def _portable_with_lse(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    seed: torch.Tensor,
    *attributes: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    *chunking, dropout = attributes
    chunks = _SortedChunks(query_key, value, buckets, mask, *chunking)
    output, lse = chunks.attend(chunks.dropped(seed, dropout))
    return output, lse.reshape(chunks.batch, chunks.heads, chunks.length)


def _portable_backward(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    seed: torch.Tensor,
    _output: torch.Tensor,
    lse: torch.Tensor,
    gradient: torch.Tensor,
    *attributes: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    *chunking, dropout = attributes
    chunks = _SortedChunks(query_key, value, buckets, mask, *chunking)
    score_gradients, value_gradients = attend_backward(
        chunks.scores,
        chunks.allowed & ~chunks.itself & chunks.present,
        chunks.query_lse(lse),
        chunks.gather(gradient),
        chunks.values,
        chunks.dropped(seed, dropout),
        chunks.over_rounds,
    )
    value_gradients = chunks.ring.sum_adjacent(value_gradients.to(lse.dtype), 1)
    as_query = (score_gradients @ chunks.keys).to(lse.dtype)
    key_gradients = (score_gradients.transpose(-1, -2) @ chunks.queries).to(lse.dtype)
    # Keys are normalised, so the component of a gradient along its key has no effect.
    scale = chunks.inverse_norm / math.sqrt(chunks.head_dim)
    as_key = chunks.ring.sum_adjacent(key_gradients, 1) * scale
    queries = chunks.queries.to(lse.dtype)
    as_key = as_key - queries * (as_key * queries).sum(dim=-1, keepdim=True) * scale.square()
    return (
        chunks.scatter(as_query + as_key).to(query_key.dtype),
        chunks.scatter(value_gradients).to(value.dtype),
    )


def _fake(query_key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(value, memory_format=torch.contiguous_format)


register(
    SORTED_CHUNK_ATTENTION,
    partial(check_attention, SORTED_CHUNK_ATTENTION),
    _portable,
    _fake,
    Gradients(_portable_with_lse, _portable_backward),
)


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
        dropout: the share of probabilities to drop in training (`call_with_dropout`).

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
