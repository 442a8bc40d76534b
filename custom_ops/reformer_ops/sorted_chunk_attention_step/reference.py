"""`SortedChunkAttentionStep` in NumPy fp64: the reference of every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.chunk_attention.reference import softmax_attend
from reformer_ops.core.attention_masks import KEY_NORM_EPSILON, SELF

Array = NDArray[Any]


def sorted_chunk_attention_step(
    query_key: Array,
    value: Array,
    buckets: Array,
    past_key: Array,
    past_value: Array,
    past_buckets: Array,
    past_order: Array,
    past_starts: Array,
    past_length: Array,
    attend_all: Array,
    *,
    chunk_length: int,
    num_chunks_before: int,
) -> tuple[NDArray[np.float64], Array, Array, Array, Array, Array]:
    """One new token is inserted into the sorted tokens of each round and attends to its chunk.

    It also attends to `num_chunks_before` chunks before its chunk.

    Args:
        query_key, value: `[batch, heads, head_dim]`, of the new token.
        buckets: `[batch, heads, num_hashes]` int32, of the new token.
        past_key, past_value: `[batch, capacity, heads, head_dim]`, by position. Keys are not
            normalised; this operator normalises them.
        past_buckets: `[batch, heads, num_hashes, capacity]` int32, by position.
        past_order: `[batch, heads, num_hashes, blocks, block_length]` int32: the positions sorted
            by bucket, and by position within a bucket, in rings. Block `b` has the ranks from
            `b * block_length` on; `blocks * block_length` is at least `capacity`.
        past_starts: `[batch, heads, num_hashes, blocks]` int32: the slot of the first rank of a
            block.
        past_length: `[batch]` int32, the number of tokens in the cache, less than `capacity`. It is
            also the position of the new token. The content of the cache from there on has no
            effect.
        attend_all: `[batch]` bool: True if the token attends to all tokens instead, in one round.
            This is defined for at most `chunk_length` tokens in the cache.

    Returns:
        The output `[batch, heads, head_dim]` fp64, and the cache with the new token in it: keys,
        values, buckets, order, starts.

    The chunk of a token is its rank (its place in the sorted sequence) divided by `chunk_length`.
    The ranks of its chunk and of the chunks before are taken modulo the length, so a token may be
    seen more than once. The new token has the score -1e5 for itself each time.

    Source: Hugging Face's `LSHSelfAttention` with a cache, for one sequence.
    """
    pasts = past_key, past_value, past_buckets, past_order, past_starts
    keys, values, present_buckets, order, starts = (past.copy() for past in pasts)
    heads, head_dim = query_key.shape[1:]
    output = np.empty(query_key.shape)
    for row, position in enumerate(past_length.tolist()):
        keys[row, position], values[row, position] = query_key[row], value[row]
        present_buckets[row, :, :, position] = buckets[row]
        length = position + 1
        for head in range(heads):
            attended, lses = [], []
            for turn, bucket in enumerate(buckets[row, head].tolist()):
                rank = int((present_buckets[row, head, turn, :position] <= bucket).sum())
                rings = order[row, head, turn], starts[row, head, turn]
                sorted_tokens = _insert(*rings, position, rank)
                first = (rank // chunk_length - num_chunks_before) * chunk_length
                if attend_all[row] and turn > 0:
                    continue
                ranks = np.arange(first, (rank // chunk_length + 1) * chunk_length) % length
                seen = np.arange(length) if attend_all[row] else sorted_tokens[ranks]
                seen_keys = keys[row, seen, head].astype(np.float64)
                norm = np.sqrt(np.mean(seen_keys**2, axis=-1) + KEY_NORM_EPSILON)
                scores = seen_keys @ query_key[row, head].astype(np.float64)
                scores = np.where(seen == position, SELF, scores / norm / np.sqrt(float(head_dim)))
                mixed, lse = softmax_attend(
                    scores[None], values[row, seen, head].astype(np.float64)
                )
                attended.append(mixed[0])
                lses.append(lse[0])
            # The weights of the rounds are a softmax over their logsumexps.
            combined, _ = softmax_attend(np.stack(lses, axis=-1), np.stack(attended))
            output[row, head] = combined[0]
    return output, keys, values, present_buckets, order, starts


def _insert(order: Array, starts: Array, token: int, rank: int) -> Array:
    """Insert the next token, number `token`, into rings `[blocks, block_length]`.

    A block after that of `rank` begins one slot earlier, so only its new first token is written.

    Returns:
        All tokens in order, `[token + 1]`.
    """
    block_length = order.shape[1]
    tokens = np.insert(order[_slots(starts, token, block_length)], rank, token)
    starts[rank // block_length + 1 : token // block_length + 1] -= 1
    starts %= block_length
    order[_slots(starts, token + 1, block_length)] = tokens
    return tokens


def _slots(starts: Array, length: int, block_length: int) -> tuple[Array, Array]:
    """The block and the slot in it of the ranks 0 to `length - 1`."""
    blocks, within = np.divmod(np.arange(length), block_length)
    return blocks, (starts[blocks] + within) % block_length
