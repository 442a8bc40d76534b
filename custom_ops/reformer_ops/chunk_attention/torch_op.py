"""`torch.ops.reformer.chunk_attention`: the portable implementation and its registration."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from reformer_ops.attention_masks import ABSENT, MASKED
from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION
from reformer_ops.torch_library import (
    call_with_dropout,
    check_chunking,
    check_operands,
    register,
    whole_chunks,
)


class Ring:
    """Chunks in a ring, and which of them each one sees (`reference.look_adjacent`).

    Nothing here asks how many chunks there are, so a trace holds for every length: `count` may be
    a number, or what a tracer has in place of one.

    Attributes:
        chunks: `[count, reach]` int64, `reach = before + 1 + after`. A reach of more than the whole
            ring stands still.
    """

    def __init__(self, count: int, before: int, after: int, device: torch.device) -> None:
        self._shifts = torch.arange(-before, after + 1, device=device)
        own = torch.arange(count, device=device)[:, None]
        inside = self._shifts.abs() < count
        self.chunks = torch.where(inside, (own + self._shifts) % count, own)

    def adjacent(self, tensor: torch.Tensor, axis: int) -> torch.Tensor:
        """Each chunk with those it sees: `[.., count, size, ..] -> [.., count, reach * size, ..]`.

        `axis` is the one that counts chunks.
        """
        seen = tensor.index_select(axis, self.chunks.flatten())
        return seen.unflatten(axis, self.chunks.shape).flatten(axis + 1, axis + 2)

    def present(self, exists: torch.Tensor, chunks_in_sequence: int) -> torch.Tensor:
        """`[count, reach * size]` bool: False for a key that is absent and in no sum.

        That is a slot beyond the end of a short sequence (`exists`, `[count, size]` bool, is False
        there), and every neighbour of its only chunk.
        """
        has_neighbours = (self._shifts == 0).to(torch.int64) + chunks_in_sequence > 1
        return (exists[self.chunks] & has_neighbours[:, None]).flatten(1)


def softmax_attend(
    scores: torch.Tensor, values: torch.Tensor, dropout: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`exp(scores - lse) @ values` and `lse[..., None]`; scores and lse are fp32.

    Dropout is of the probabilities and leaves the lse alone, as in Hugging Face.
    """
    lse = torch.logsumexp(scores, dim=-1, keepdim=True)
    probabilities = torch.exp(scores - lse)
    if dropout:
        probabilities = functional.dropout(probabilities, dropout)
    return probabilities.to(values.dtype) @ values, lse


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
    check_operands(CHUNK_ATTENTION, query, key, value, mask)
    CHUNK_ATTENTION.check_attributes(
        chunk_length=chunk_length,
        num_chunks_before=num_chunks_before,
        num_chunks_after=num_chunks_after,
        causal=causal,
    )
    check_chunking(CHUNK_ATTENTION, query.shape[1], chunk_length)


def _portable(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    dropout: float = 0.0,
) -> torch.Tensor:
    batch, length, heads, head_dim = query.shape
    chunks, padding = whole_chunks(length, chunk_length)
    ring = Ring(chunks, num_chunks_before, num_chunks_after, query.device)

    def chunked(tensor: torch.Tensor) -> torch.Tensor:
        rows = functional.pad(tensor, (0, 0, 0, 0, 0, padding)).transpose(1, 2)
        return rows.reshape(batch, heads, chunks, chunk_length, head_dim)

    queries = chunked(query)
    keys = ring.adjacent(chunked(key / math.sqrt(head_dim)), 2)
    values = ring.adjacent(chunked(value), 2)
    positions = torch.arange(chunks * chunk_length, device=query.device)
    positions = positions.reshape(chunks, chunk_length)
    present = ring.present(positions < length, chunks)
    valid = functional.pad(mask, (0, padding)).reshape(batch, chunks, chunk_length)
    allowed = ring.adjacent(valid, 1)[:, None, :, None, :]
    if causal:
        key_positions = ring.adjacent(positions, 0)
        allowed = allowed & (positions[:, :, None] >= key_positions[:, None, :])
    scores = (queries @ keys.transpose(-1, -2)).to(torch.float32)
    scores = scores.masked_fill_(~allowed, MASKED).masked_fill_(~present[:, None, :], ABSENT)
    output, _ = softmax_attend(scores, values, dropout)
    output = output.reshape(batch, heads, chunks * chunk_length, head_dim)[:, :, :length]
    return output.transpose(1, 2).contiguous()  # as `_fake` promises


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
    dropout: float = 0.0,
) -> torch.Tensor:
    """Softmax attention within chunks and their neighbours: `reference.chunk_attention`.

    Args:
        query, key, value: `[batch, length, heads, head_dim]` fp32, fp16 or bf16; `length` at most
            `chunk_length` or a multiple of it. Scores and softmax are fp32.
        mask: `[batch, length]` bool, False for padding.
        dropout: of the probabilities, in training (`call_with_dropout`).

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
