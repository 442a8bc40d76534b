"""`LshBucket` in NumPy fp64: the reference of every backend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def lsh_bucket(
    query: Array, rotations: Array, mask: Array, *, factors: Sequence[int]
) -> NDArray[np.int32]:
    """The bucket of every query in every round of hashing.

    Args:
        query: `[batch, length, heads, head_dim]`, any float type.
        rotations: `[heads, head_dim, num_hashes, sum(factors) / 2]`, the random projections.
        mask: `[batch, length]` bool, False for padding.
        factors: even numbers whose product is the number of buckets. Each factor is a separate
            hash: the index of the largest of `[x R, -x R]`; of equal values, the lowest index.

    Returns:
        `[batch, heads, num_hashes, length]` int32: `b0 + n0 * (b1 + n1 * ...)`. Padding has an
        extra bucket with the number `prod(factors)`.

    Source: Reformer (arXiv 2001.04451) section 2; the factorised form and the padding bucket are
    Hugging Face's `LSHSelfAttention._hash_vectors`.
    """
    shape = (query.shape[0], query.shape[2], rotations.shape[2], query.shape[1])
    buckets = np.zeros(shape, np.int64)
    stride = 1
    for factor, projected in zip(factors, _projections(query, rotations, factors), strict=True):
        buckets += stride * projected.argmax(axis=-1)
        stride *= factor
    return np.where(mask[:, None, None, :], buckets, math.prod(factors)).astype(np.int32)


def bucket_margins(
    query: Array, rotations: Array, *, factors: Sequence[int]
) -> NDArray[np.float64]:
    """The margin of each decision: the smallest `best - second best` of all factors.

    It is relative to the size of a usual projection: the length of the query times the root mean
    square of the rotations. (It is not relative to the best: for a factor of 2 the second best is
    the negative of the best, so every decision would seem clear.) Rounding can move a query to
    another bucket only if the margin is tiny. Same arguments as `lsh_bucket`; returns
    `[batch, heads, num_hashes, length]` fp64.
    """
    if not factors:
        raise ValueError("factors is empty: there is no hash to take a margin of")
    gaps = []
    for projected in _projections(query, rotations, factors):
        second, best = np.moveaxis(np.partition(projected, -2, axis=-1)[..., -2:], -1, 0)
        gaps.append(best - second)
    lengths = np.linalg.norm(query.astype(np.float64), axis=-1).transpose(0, 2, 1)[:, :, None]
    usual = lengths * np.sqrt(np.square(rotations.astype(np.float64)).mean())
    margins: NDArray[np.float64] = np.min(gaps, axis=0)
    return margins / np.maximum(usual, np.finfo(np.float64).tiny)


def _projections(query: Array, rotations: Array, factors: Sequence[int]) -> list[Array]:
    """`[x R, -x R]` for each factor: `[batch, heads, num_hashes, length, factor]` fp64."""
    query = query.astype(np.float64).transpose(0, 2, 1, 3)[:, :, None]
    per_round = rotations.astype(np.float64).transpose(0, 2, 1, 3)[None]
    rotated = query @ per_round
    pieces = np.split(rotated, np.cumsum([factor // 2 for factor in factors])[:-1], axis=-1)
    return [np.concatenate([piece, -piece], axis=-1) for piece in pieces]
