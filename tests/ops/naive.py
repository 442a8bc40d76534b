"""The operators in plain loops over the tokens, written from docs/ops.md alone.

They are slow, and only serve to check that the reference agrees with the document.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Seen = list[tuple[float, int]]  # the score and the position of each key that a query sees


def lsh_bucket(
    query: Array, rotations: Array, mask: Array, *, factors: Sequence[int]
) -> NDArray[np.int32]:
    batch, length, heads, _ = query.shape
    rounds = rotations.shape[2]
    buckets = np.empty((batch, heads, rounds, length), np.int32)
    for b, h, r, t in np.ndindex(*buckets.shape):
        columns = [[float(x) for x in column] for column in rotations[h, :, r].T]
        vector = [float(x) for x in query[b, t, h]]
        bucket, stride, start = 0, 1, 0
        for factor in factors:
            half = factor // 2
            best, winner = -math.inf, -1
            for candidate in range(factor):
                projection = _dot(vector, columns[start + candidate % half])
                if candidate >= half:
                    projection = -projection
                if projection > best:
                    best, winner = projection, candidate
            bucket += stride * winner
            stride *= factor
            start += half
        buckets[b, h, r, t] = bucket if mask[b, t] else math.prod(factors)
    return buckets


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
    batch, length, heads, head_dim = query.shape
    output = np.empty(query.shape, np.float64)
    for b, t, h in np.ndindex(batch, length, heads):
        if length <= chunk_length:
            visible = list(range(length))
        else:
            visible = []
            count = length // chunk_length
            for shift in range(-num_chunks_before, num_chunks_after + 1):
                chunk = _ring(t // chunk_length, shift, count)
                visible += range(chunk * chunk_length, (chunk + 1) * chunk_length)
        seen: Seen = []
        for j in visible:
            score = _dot(query[b, t, h], key[b, j, h]) / math.sqrt(head_dim)
            if not mask[b, j] or (causal and j > t):
                score = -1e9
            seen.append((score, j))
        output[b, t, h], _ = _attend(seen, value[b, :, h])
    return output


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
    batch, length, heads, _ = query_key.shape
    output = np.empty(query_key.shape, np.float64)
    for b, h in np.ndindex(batch, heads):
        if length <= chunk_length:
            chunks = [list(range(length))]
            reach = range(1)
        else:
            chunks = []
            for row in buckets[b, h]:
                order = sorted(range(length), key=lambda t, row=row: (row[t], t))  # type: ignore[misc]
                chunks += [order[i : i + chunk_length] for i in range(0, length, chunk_length)]
            reach = range(-num_chunks_before, num_chunks_after + 1)
        # The output and the logsumexp of each query in each round.
        found: list[list[tuple[Array, float]]] = [[] for _ in range(length)]
        for number, chunk in enumerate(chunks):
            neighbours = [chunks[_ring(number, shift, len(chunks))] for shift in reach]
            for t in chunk:
                seen: Seen = []
                for j in (j for neighbour in neighbours for j in neighbour):
                    score = _dot(query_key[b, t, h], _shared_key(query_key[b, j, h]))
                    if not mask[b, j] or (causal and j > t):
                        score = -1e9
                    if j == t:
                        score = -1e5
                    seen.append((score, j))
                found[t].append(_attend(seen, value[b, :, h]))
        for t, rounds in enumerate(found):
            rows = np.stack([row for row, _ in rounds])
            by_round: Seen = [(lse, number) for number, (_, lse) in enumerate(rounds)]
            output[b, t, h], _ = _attend(by_round, rows)
    return output


def _ring(chunk: int, shift: int, count: int) -> int:
    return (chunk + shift) % count if abs(shift) < count else chunk


def _attend(seen: Seen, rows: Array) -> tuple[Array, float]:
    top = max(score for score, _ in seen)
    lse = _float32(top + math.log(sum(math.exp(score - top) for score, _ in seen)))
    total = np.zeros(rows.shape[1], np.float64)
    for score, j in seen:
        total += math.exp(score - lse) * rows[j].astype(np.float64)
    return total, lse


def _shared_key(query: Array) -> list[float]:
    mean_square = sum(float(x) ** 2 for x in query) / len(query)
    return [float(x) / math.sqrt(mean_square + 1e-6) / math.sqrt(len(query)) for x in query]


def _dot(first: Sequence[float] | Array, second: Sequence[float] | Array) -> float:
    return sum(float(x) * float(y) for x, y in zip(first, second, strict=True))


def _float32(number: float) -> float:
    """The nearest fp32."""
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded
