"""Test inputs of `SortedChunkAttentionStep`, for every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reformer_ops.core.cases import Case


def make_case(
    past_length: Sequence[int],
    *,
    attend_all: Sequence[bool] | None = None,
    capacity: int | None = None,
    heads: int = 2,
    head_dim: int = 4,
    num_hashes: int = 2,
    num_buckets: int = 4,
    chunk_length: int = 4,
    before: int = 1,
    block_length: int = 8,
    seed: int = 0,
) -> Case:
    """Sequences with `past_length` tokens before the new one; normally distributed numbers.

    The unused end of the cache also contains numbers, which must have no effect. Without
    `attend_all`, sequences of less than a chunk attend all, as in a model.
    """
    rng = np.random.default_rng(seed)
    batch, capacity = len(past_length), capacity or max(past_length) + 3
    row, cache = (batch, heads, head_dim), (batch, capacity, heads, head_dim)
    shapes = {"query_key": row, "value": row, "past_key": cache, "past_value": cache}
    rounds = (batch, heads, num_hashes)
    past_buckets = rng.integers(num_buckets, size=(*rounds, capacity), dtype=np.int32)
    blocks = -(-capacity // block_length)
    past_order = rng.integers(-1000, 1000, size=(*rounds, blocks, block_length), dtype=np.int32)
    past_starts = rng.integers(block_length, size=(*rounds, blocks), dtype=np.int32)
    for i, length in enumerate(past_length):
        in_order = np.argsort(past_buckets[i, ..., :length], axis=-1, kind="stable")
        block, within = np.divmod(np.arange(length), block_length)
        for line in np.ndindex(heads, num_hashes):
            slots = (past_starts[i][line][block] + within) % block_length
            past_order[i][line][block, slots] = in_order[line]
    if attend_all is None:
        attend_all = [length < chunk_length for length in past_length]
    lengths = "-".join(map(str, past_length))
    return Case(
        f"past{lengths}-of{capacity}-h{heads}-d{head_dim}-r{num_hashes}-b{num_buckets}-"
        f"c{chunk_length}-look{before}-block{block_length}-"
        f"all{''.join('01'[flag] for flag in attend_all)}",
        {
            **{name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()},
            "buckets": rng.integers(num_buckets, size=rounds, dtype=np.int32),
            "past_buckets": past_buckets,
            "past_order": past_order,
            "past_starts": past_starts,
            "past_length": np.array(past_length, np.int32),
            "attend_all": np.array(attend_all),
        },
        {"chunk_length": chunk_length, "num_chunks_before": before},
    )


def cases() -> Iterator[Case]:
    """Lengths around whole chunks, windows with repeated tokens, numbers of buckets, head sizes."""
    yield make_case([0])
    yield make_case([0, 1, 3, 4, 5, 7, 8, 9, 12, 31])
    yield make_case([4, 4, 2], attend_all=[True, False, True])
    yield make_case([4, 4, 5, 16], attend_all=[True, False, False, False], before=0)
    yield make_case([5, 9, 13, 40], before=3)
    yield make_case([3, 17], num_buckets=1, num_hashes=1)  # all in one bucket
    yield make_case([60, 33], num_buckets=1000, num_hashes=3)  # mostly one token in a bucket
    yield make_case([0, 1, 6, 7], chunk_length=1, before=2)
    yield make_case([0, 1, 5, 31, 32, 33], block_length=1)
    yield make_case([7, 20, 22, 23, 24], block_length=3, capacity=27)
    yield make_case([9, 60], block_length=100)
    yield make_case([11], capacity=12)  # the last place in the cache
    yield make_case([70, 40], heads=3, head_dim=7, chunk_length=16, num_hashes=1)
    yield make_case([300, 1000], head_dim=64, chunk_length=64, num_buckets=32, block_length=64)
    yield make_case([90], heads=1, head_dim=33, chunk_length=24, num_buckets=8)
