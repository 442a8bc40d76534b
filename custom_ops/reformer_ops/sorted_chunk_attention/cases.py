"""Test inputs of `SortedChunkAttention`, for every backend."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reformer_ops.core.cases import Case, random_mask


def make_case(
    *,
    batch: int,
    length: int,
    heads: int,
    head_dim: int,
    num_hashes: int,
    num_buckets: int,
    chunk_length: int,
    before: int = 1,
    after: int = 0,
    causal: bool = True,
    mask: str = "full",
    seed: int = 0,
) -> Case:
    """Normally distributed queries and values, uniform buckets, padding in the last bucket."""
    rng = np.random.default_rng(seed)
    shape = (batch, length, heads, head_dim)
    valid = random_mask(rng, batch, length, mask)
    buckets = rng.integers(0, num_buckets, (batch, heads, num_hashes, length))
    buckets = np.where(valid[:, None, None, :], buckets, num_buckets).astype(np.int32)
    return Case(
        f"b{batch}-l{length}-h{heads}-d{head_dim}-r{num_hashes}-n{num_buckets}-c{chunk_length}-"
        f"look{before}.{after}-{'causal' if causal else 'both'}-{mask}",
        {
            "query_key": rng.standard_normal(shape).astype(np.float32),
            "value": rng.standard_normal(shape).astype(np.float32),
            "buckets": buckets,
            "mask": valid,
        },
        {
            "num_buckets": num_buckets,
            "chunk_length": chunk_length,
            "num_chunks_before": before,
            "num_chunks_after": after,
            "causal": causal,
        },
    )


def cases() -> Iterator[Case]:
    """Short and long lengths, one to four rounds, every reach, both directions, every mask."""
    for length in (1, 5, 8, 16, 40):
        for causal in (True, False):
            yield make_case(
                batch=2,
                length=length,
                heads=2,
                head_dim=4,
                num_hashes=2,
                num_buckets=4,
                chunk_length=8,
                causal=causal,
            )
    for before, after, rounds in ((0, 0, 1), (1, 1, 3), (2, 0, 2), (3, 2, 1)):
        yield make_case(
            batch=2,
            length=24,
            heads=3,
            head_dim=7,
            num_hashes=rounds,
            num_buckets=6,
            chunk_length=12,
            before=before,
            after=after,
            causal=False,
        )
    for mask in ("ragged", "holes", "empty"):
        for length in (7, 48):
            for causal in (True, False):
                yield make_case(
                    batch=3,
                    length=length,
                    heads=2,
                    head_dim=16,
                    num_hashes=2,
                    num_buckets=18,
                    chunk_length=16,
                    causal=causal,
                    mask=mask,
                )
    # Thousands of buckets need several digits of the radix sort; with one bucket nothing is sorted.
    yield make_case(
        batch=1, length=512, heads=2, head_dim=64, num_hashes=1, num_buckets=8192, chunk_length=64
    )
    yield make_case(
        batch=1, length=128, heads=2, head_dim=8, num_hashes=4, num_buckets=1, chunk_length=32
    )
    # GPUs have special tiles for these: wide heads with chunks of 128, and wide heads with shorter
    # chunks (here a head that must be padded).
    for head_dim, chunk_length in ((128, 128), (72, 64)):
        yield make_case(
            batch=1,
            length=3 * chunk_length,
            heads=1,
            head_dim=head_dim,
            num_hashes=2,
            num_buckets=16,
            chunk_length=chunk_length,
            mask="ragged",
        )
    edges = make_case(
        batch=1, length=192, heads=3, head_dim=8, num_hashes=2, num_buckets=4, chunk_length=96
    )
    # Zeros have no direction. Squares of the second head exceed the range of fp16; so would a sum
    # of the third head's values with weights that are not normalised.
    edges.inputs["query_key"] *= np.array([[0.0], [1000.0], [1e-4]], np.float32)
    edges.inputs["value"][:, :, 2] += 1000.0
    yield Case("edges-of-the-range", edges.inputs, edges.attributes)
