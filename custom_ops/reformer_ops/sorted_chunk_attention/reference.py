"""`SortedChunkAttention` in NumPy fp64: the reference of every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.chunk_attention.reference import look_adjacent, softmax_attend
from reformer_ops.core.attention_masks import KEY_NORM_EPSILON, MASKED, SELF

Array = NDArray[Any]


def sorted_chunk_attention(
    query_key: Array,
    value: Array,
    buckets: Array,
    mask: Array,
    *,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
) -> NDArray[np.float64]:
    """Sort by bucket, attend within chunks of the order, undo the sort, sum over the rounds.

    Args:
        query_key, value: `[batch, length, heads, head_dim]`. `length` is at most `chunk_length`
            (then `buckets` is ignored and every query sees the whole sequence, once) or a multiple
            of it.
        buckets: `[batch, heads, num_hashes, length]`, values in `0..num_buckets` inclusive.
        mask: `[batch, length]` bool, False for padding.
        num_buckets: number of hash buckets, not counting the one for padding.
        num_chunks_before, num_chunks_after: neighbouring chunks that a query sees. The chunks of
            all rounds form one ring: before the first chunk of a round is the last of the previous
            round.
        causal: mask keys that are after the query in the unsorted sequence.

    Returns:
        `[batch, length, heads, head_dim]` fp64.

    Source: Reformer (arXiv 2001.04451) section 2; Hugging Face's `LSHSelfAttention`.
    """
    batch, length, heads, head_dim = query_key.shape
    if length <= chunk_length:
        order = np.broadcast_to(np.arange(length), (batch, heads, 1, length))
        before, after = 0, 0
    else:
        # The sort is stable: within a bucket, positions keep their order.
        order = np.argsort(buckets, axis=-1, kind="stable")
        before, after = num_chunks_before, num_chunks_after
    rounds, size = order.shape[2], min(chunk_length, length)

    queries, values = (
        np.take_along_axis(
            tensor.astype(np.float64).transpose(0, 2, 1, 3)[:, :, None], order[..., None], axis=3
        ).reshape(batch, heads, -1, size, head_dim)
        for tensor in (query_key, value)
    )
    mean_square = np.mean(queries**2, axis=-1, keepdims=True)
    keys = queries / np.sqrt(mean_square + KEY_NORM_EPSILON) / np.sqrt(float(head_dim))
    positions = order.reshape(batch, heads, -1, size)
    valid = np.take_along_axis(
        np.broadcast_to(mask[:, None, None, :], order.shape), order, axis=-1
    ).reshape(positions.shape)

    keys, values, key_positions, valid = (
        look_adjacent(tensor, before, after) for tensor in (keys, values, positions, valid)
    )
    allowed = np.broadcast_to(valid[..., None, :], (*positions.shape, valid.shape[-1]))
    if causal:
        allowed = allowed & (positions[..., :, None] >= key_positions[..., None, :])
    scores = np.where(allowed, queries @ keys.swapaxes(-1, -2), MASKED)
    scores = np.where(positions[..., :, None] == key_positions[..., None, :], SELF, scores)
    output, lse = softmax_attend(scores, values)

    undo = np.argsort(order, axis=-1)[..., None]
    output = np.take_along_axis(output.reshape(batch, heads, rounds, length, head_dim), undo, 3)
    lse = np.take_along_axis(lse.reshape(batch, heads, rounds, length, 1), undo, 3)
    # The weights of the rounds are a softmax over their logsumexps.
    combined, _ = softmax_attend(lse.transpose(0, 1, 3, 4, 2), output.swapaxes(2, 3))
    return combined[:, :, :, 0].transpose(0, 2, 1, 3)
