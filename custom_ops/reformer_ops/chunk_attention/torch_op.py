"""`torch.ops.reformer.chunk_attention`: the portable implementation and its registration."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION
from reformer_ops.core.attention_masks import ABSENT, MASKED
from reformer_ops.core.dropout_masks import factors
from reformer_ops.core.torch_library import (
    Gradients,
    call_with_dropout,
    check_attention,
    register,
    whole_chunks,
    wide,
)


class Ring:
    """Chunks in a ring, and the chunks that each chunk sees (`reference.look_adjacent`).

    No code here branches on the number of chunks, so a trace is valid for every length: `count` may
    be a number or a tracer's symbol.

    Attributes:
        chunks: `[count, reach]` int64, `reach = before + 1 + after`. A shift of the whole ring or
            more gives the chunk itself.
    """

    def __init__(self, count: int, before: int, after: int, device: torch.device) -> None:
        self._shifts = torch.arange(-before, after + 1, device=device)
        own = torch.arange(count, device=device)[:, None]
        inside = self._shifts.abs() < count
        self.chunks = torch.where(inside, (own + self._shifts) % count, own)

    def adjacent(self, tensor: torch.Tensor, axis: int) -> torch.Tensor:
        """The chunks that each one sees: `[.., count, size, ..] -> [.., count, reach * size, ..]`.

        `axis` is the axis of the chunks.
        """
        seen = tensor.index_select(axis, self.chunks.flatten())
        return seen.unflatten(axis, self.chunks.shape).flatten(axis + 1, axis + 2)

    def present(self, exists: torch.Tensor, chunks_in_sequence: int) -> torch.Tensor:
        """`[count, reach * size]` bool: False for an absent key, which is in no sum.

        Absent keys are the slots after the end of a short sequence (there `exists`,
        `[count, size]` bool, is False), and all neighbours of a single chunk.
        """
        has_neighbours = (self._shifts == 0).to(torch.int64) + chunks_in_sequence > 1
        return (exists[self.chunks] & has_neighbours[:, None]).flatten(1)

    def sum_adjacent(self, tensor: torch.Tensor, axis: int) -> torch.Tensor:
        """For each chunk, the sum over all chunks that see it; `tensor` has the shape of
        `adjacent`'s result."""
        seen = tensor.unflatten(axis + 1, (self.chunks.shape[1], -1)).flatten(axis, axis + 1)
        shape = list(seen.shape)
        shape[axis] = self.chunks.shape[0]
        return seen.new_zeros(shape).index_add_(axis, self.chunks.flatten(), seen)


def softmax_attend(
    scores: torch.Tensor, values: torch.Tensor, dropped: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`exp(scores - lse) @ values` and `lse[..., None]`; scores and lse are fp32.

    The probabilities are multiplied by `dropped`, dropout's `factors`. The lse is computed before
    dropout, as in Hugging Face.
    """
    lse = torch.logsumexp(scores, dim=-1, keepdim=True)
    probabilities = torch.exp(scores - lse)
    if dropped is not None:
        probabilities = probabilities * dropped
    return probabilities.to(values.dtype) @ values, lse


def attend_backward(
    scores: torch.Tensor,
    live: torch.Tensor,
    lse: torch.Tensor,
    gradient: torch.Tensor,
    values: torch.Tensor,
    dropped: torch.Tensor | None,
    over_all: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of scores and of values.

    Args:
        scores: `[.., queries, keys]` fp32; constants where `live` is False.
        lse: `[.., queries, 1]` fp32, of all scores of the query, in all its occurrences. Infinite
            for a query that is ignored.
        gradient: `[.., queries, head_dim]`, of the outputs.
        values: `[.., keys, head_dim]`.
        dropped: `[.., queries, keys]`, as in `softmax_attend`.
        over_all: sums `[.., queries, 1]` over all occurrences of each query.

    Returns:
        `[.., queries, keys]` and `[.., keys, head_dim]` of the type of `values`.
    """
    weights = torch.exp(scores - lse)
    weight_gradients = (gradient @ values.transpose(-1, -2)).to(scores.dtype)
    kept = weights
    if dropped is not None:
        kept, weight_gradients = weights * dropped, weight_gradients * dropped
    value_gradients = kept.to(values.dtype).transpose(-1, -2) @ gradient
    # In exact arithmetic, this is `gradient . output`. This form rounds like `weight_gradients`,
    # from which it is subtracted.
    delta = over_all((weights * weight_gradients).sum(dim=-1, keepdim=True))
    score_gradients = (weights * (weight_gradients - delta)).masked_fill_(~live, 0)
    return score_gradients.to(values.dtype), value_gradients


class _Chunks:
    """The operands cut into chunks, and the scores of each query for the keys that it sees."""

    def __init__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        chunk_length: int,
        num_chunks_before: int,
        num_chunks_after: int,
        causal: bool,
    ) -> None:
        self.batch, self.length, self.heads, self.head_dim = query.shape
        self.size = chunk_length
        self.count, self.padding = whole_chunks(self.length, chunk_length)
        self.ring = Ring(self.count, num_chunks_before, num_chunks_after, query.device)
        self.queries = self.cut(query)
        self.keys = self.ring.adjacent(self.cut(key / math.sqrt(self.head_dim)), 2)
        self.values = self.ring.adjacent(self.cut(value), 2)
        positions = torch.arange(self.count * chunk_length, device=query.device)
        self.positions = positions = positions.reshape(self.count, chunk_length)
        self.present = self.ring.present(positions < self.length, self.count)[:, None, :]
        valid = functional.pad(mask, (0, self.padding))
        valid = valid.reshape(self.batch, self.count, chunk_length)
        self.allowed = self.ring.adjacent(valid, 1)[:, None, :, None, :]
        if causal:
            key_positions = self.ring.adjacent(positions, 0)
            self.allowed = self.allowed & (positions[:, :, None] >= key_positions[:, None, :])
        scores = (self.queries @ self.keys.transpose(-1, -2)).to(wide(query.dtype))
        scores = scores.masked_fill_(~self.allowed, MASKED)
        self.scores = scores.masked_fill_(~self.present, ABSENT)

    def cut(self, tensor: torch.Tensor) -> torch.Tensor:
        """`[batch, length, heads, head_dim]` to `[batch, heads, count, size, head_dim]`."""
        rows = functional.pad(tensor, (0, 0, 0, 0, 0, self.padding)).transpose(1, 2)
        return rows.reshape(self.batch, self.heads, self.count, self.size, self.head_dim)

    def join(self, chunks: torch.Tensor) -> torch.Tensor:
        """Undo `cut`."""
        rows = chunks.reshape(self.batch, self.heads, self.count * self.size, self.head_dim)
        return rows[:, :, : self.length].transpose(1, 2).contiguous()  # as `_fake` says

    def dropped(self, seed: torch.Tensor, dropout: float) -> torch.Tensor | None:
        """The factors for `softmax_attend`; docs/ops.md defines the row and column numbers."""
        if dropout == 0:
            return None
        lines = torch.arange(self.batch * self.heads, device=seed.device)
        first_rows = (lines * self.length).reshape(self.batch, self.heads, 1, 1, 1)
        rows = first_rows + self.positions[:, :, None]
        columns = self.ring.adjacent(self.positions, 0)[:, None, :]
        return factors(seed, rows, columns, dropout, self.scores.dtype)


def _portable(*arguments: Any) -> torch.Tensor:
    chunks = _Chunks(*arguments)
    output, _ = softmax_attend(chunks.scores, chunks.values)
    return chunks.join(output)


def _portable_with_lse(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    seed: torch.Tensor,
    *attributes: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    *chunking, dropout = attributes
    chunks = _Chunks(query, key, value, mask, *chunking)
    dropped = chunks.dropped(seed, dropout)
    output, lse = softmax_attend(chunks.scores, chunks.values, dropped)
    lse = lse.reshape(chunks.batch, chunks.heads, chunks.count * chunks.size)
    return chunks.join(output), lse[:, :, : chunks.length].contiguous()


def _portable_backward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    seed: torch.Tensor,
    _output: torch.Tensor,
    lse: torch.Tensor,
    gradient: torch.Tensor,
    *attributes: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    *chunking, dropout = attributes
    chunks = _Chunks(query, key, value, mask, *chunking)
    shape = (*chunks.queries.shape[:-1], 1)
    score_gradients, value_gradients = attend_backward(
        chunks.scores,
        chunks.allowed & chunks.present,
        functional.pad(lse, (0, chunks.padding), value=math.inf).reshape(shape),
        chunks.cut(gradient),
        chunks.values,
        chunks.dropped(seed, dropout),
        lambda row_sums: row_sums,
    )
    key_gradients = score_gradients.transpose(-1, -2) @ chunks.queries

    def summed(seen: torch.Tensor) -> torch.Tensor:
        return chunks.ring.sum_adjacent(seen.to(lse.dtype), 2)

    return (
        chunks.join(score_gradients @ chunks.keys),
        chunks.join(summed(key_gradients) / math.sqrt(chunks.head_dim)).to(key.dtype),
        chunks.join(summed(value_gradients)).to(value.dtype),
    )


def _fake(query: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(query, memory_format=torch.contiguous_format)


register(
    CHUNK_ATTENTION,
    partial(check_attention, CHUNK_ATTENTION),
    _portable,
    _fake,
    Gradients(_portable_with_lse, _portable_backward),
)


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
    dropout: float = 0.0,
) -> torch.Tensor:
    """Softmax attention within chunks and their neighbours: `reference.chunk_attention`.

    Args:
        query, key, value: `[batch, length, heads, head_dim]` fp32, fp16 or bf16; `length` at most
            `chunk_length` or a multiple of it. Scores and softmax are fp32.
        mask: `[batch, length]` bool, False for padding.
        dropout: the dropout probability of the attention probabilities, in training
            (`call_with_dropout`).

    Returns:
        `[batch, length, heads, head_dim]` of the inputs' type.

    Raises:
        OpError: shapes, types or attributes do not fit.
    """
    return call_with_dropout(
        CHUNK_ATTENTION,
        dropout,
        query,
        key,
        value,
        mask,
        chunk_length,
        num_chunks_before,
        num_chunks_after,
        causal,
    )
