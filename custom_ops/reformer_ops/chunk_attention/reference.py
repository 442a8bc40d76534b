"""`ChunkAttention` in NumPy fp64: the reference of every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.attention_masks import MASKED

Array = NDArray[Any]


def chunk_attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    *,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> NDArray[np.float64]:
    """Softmax attention of each chunk to itself and its neighbours.

    Args:
        query, key, value: `[batch, length, heads, head_dim]`. `length` is at most `chunk_length`
            (then every query sees the whole sequence, once) or a multiple of it.
        mask: `[batch, length]` bool, False for padding.
        num_chunks_before, num_chunks_after: neighbours that a chunk sees; they wrap around the
            ends.
        causal: forbid keys after the query.

    Returns:
        `[batch, length, heads, head_dim]` fp64.

    Source: Hugging Face's `LocalSelfAttention`. A forbidden score is replaced by -1e9, not removed:
    a query with only forbidden keys gets `sum(value)`, because the logsumexp is fp32, and there
    adding the logarithm to -1e9 does not change it.
    """
    batch, length, heads, head_dim = query.shape
    size = min(chunk_length, length)
    before, after = (num_chunks_before, num_chunks_after) if length > chunk_length else (0, 0)
    queries, keys, values = (
        tensor.astype(np.float64).transpose(0, 2, 1, 3).reshape(batch, heads, -1, size, head_dim)
        for tensor in (query, key / np.sqrt(float(head_dim)), value)
    )
    positions = np.arange(length).reshape(1, 1, -1, size)
    valid = mask.reshape(batch, 1, -1, size)
    keys, values, key_positions, valid = (
        look_adjacent(tensor, before, after) for tensor in (keys, values, positions, valid)
    )
    allowed = np.broadcast_to(valid[..., None, :], (*valid.shape[:3], size, valid.shape[-1]))
    if causal:
        allowed = allowed & (positions[..., :, None] >= key_positions[..., None, :])
    scores = np.where(allowed, queries @ keys.swapaxes(-1, -2), MASKED)
    output, _ = softmax_attend(scores, values)
    return output.reshape(batch, heads, length, head_dim).transpose(0, 2, 1, 3)


def look_adjacent(chunks: Array, before: int, after: int) -> Array:
    """Each chunk with its neighbours: `[a, b, n, size, ...] -> [a, b, n, width * size, ...]`.

    The chunks are a ring. A shift of the whole ring or more gives the chunk itself, as the slices
    in Hugging Face's `_look_adjacent` do.
    """
    count = chunks.shape[2]
    shifts = [shift if abs(shift) < count else 0 for shift in range(-before, after + 1)]
    return np.concatenate([np.roll(chunks, -shift, axis=2) for shift in shifts], axis=3)


def softmax_attend(scores: Array, values: Array) -> tuple[Array, Array]:
    """`exp(scores - lse) @ values` and `lse[..., None]`, with `lse` rounded to fp32.

    The rounding is part of the definition: at scores of -1e5, neighbouring fp32 numbers differ by
    0.0078, which affects the outputs of Hugging Face's model.
    """
    top = scores.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(scores - top).sum(axis=-1, keepdims=True))
    lse = (top + log_sum).astype(np.float32).astype(np.float64)
    return np.exp(scores - lse) @ values, lse
