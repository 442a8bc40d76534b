"""Test inputs of `ChunkAttentionStep` for every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reformer_ops.core.cases import Case


def make_case(
    past_length: Sequence[int],
    *,
    heads: int = 2,
    head_dim: int = 4,
    chunk_length: int = 4,
    before: int = 1,
    seed: int = 0,
) -> Case:
    """A sequence for each number of tokens in `past_length`; normally distributed numbers.

    Slots without a token contain numbers too: the operator must ignore them.
    """
    rng = np.random.default_rng(seed)
    batch, window = len(past_length), (before + 1) * chunk_length
    row, cache = (batch, heads, head_dim), (batch, window, heads, head_dim)
    shapes = {"query": row, "key": row, "value": row, "past_key": cache, "past_value": cache}
    lengths = "-".join(map(str, past_length))
    return Case(
        f"past{lengths}-h{heads}-d{head_dim}-c{chunk_length}-look{before}",
        {
            **{name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()},
            "past_length": np.array(past_length, np.int32),
        },
        {"chunk_length": chunk_length, "num_chunks_before": before},
    )


def cases() -> Iterator[Case]:
    """All positions in a chunk, numbers of chunks, none or several before, sizes near vectors."""
    yield make_case([0])
    yield make_case([0, 1, 3, 4, 5, 7, 8, 11, 12, 100003])
    yield make_case([0, 2, 4, 9], before=0)
    yield make_case([1, 5, 9, 13, 17, 30], before=3)
    yield make_case([0, 1, 6, 7], chunk_length=1, before=2)
    yield make_case([70, 40], heads=3, head_dim=7, chunk_length=16)
    yield make_case([200, 1000], heads=2, head_dim=64, chunk_length=64)
    yield make_case([40], heads=1, head_dim=33, chunk_length=24)
