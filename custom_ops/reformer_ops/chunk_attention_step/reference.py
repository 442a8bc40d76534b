"""`ChunkAttentionStep` in NumPy fp64: the reference of every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.chunk_attention.reference import softmax_attend

Array = NDArray[Any]


def chunk_attention_step(
    query: Array,
    key: Array,
    value: Array,
    past_key: Array,
    past_value: Array,
    past_length: Array,
    *,
    chunk_length: int,
    num_chunks_before: int,
) -> tuple[NDArray[np.float64], Array, Array]:
    """One new token attends to the tokens of its chunk up to itself, and to the chunks before.

    Args:
        query, key, value: `[batch, heads, head_dim]`, of the new token.
        past_key, past_value: `[batch, window, heads, head_dim]`, with `window` =
            `(num_chunks_before + 1) * chunk_length`. The token at position p has the index p modulo
            `window`; it overwrites an older one.
        past_length: `[batch]` int32, the tokens before the new one, which is also its position.

    Returns:
        The output `[batch, heads, head_dim]` fp64, and the cache with the new token in it.

    Source: Hugging Face's `LocalSelfAttention` with a cache, for one sequence. If the sequence has
    fewer than `num_chunks_before` chunks before the current one, the token sees all of it. (Hugging
    Face then takes a negative number of tokens, which drops some.)
    """
    window = (num_chunks_before + 1) * chunk_length
    present_key, present_value = past_key.copy(), past_value.copy()
    output = np.empty(query.shape)
    for row, position in enumerate(past_length.tolist()):
        present_key[row, position % window] = key[row]
        present_value[row, position % window] = value[row]
        first = max(0, (position // chunk_length - num_chunks_before) * chunk_length)
        seen = np.arange(first, position + 1) % window
        keys = present_key[row, seen].astype(np.float64) / np.sqrt(float(query.shape[-1]))
        scores = np.einsum("hd,khd->hk", query[row].astype(np.float64), keys)[:, None]
        values = present_value[row, seen].astype(np.float64).transpose(1, 0, 2)
        output[row] = softmax_attend(scores, values)[0][:, 0]
    return output, present_key, present_value
