"""Test inputs of `LshBucket`, for every backend."""

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
    factors: tuple[int, ...],
    mask: str = "full",
    seed: int = 0,
) -> Case:
    """Normally distributed queries and rotations."""
    rng = np.random.default_rng(seed)
    shape = (batch, length, heads, head_dim)
    rotations = rng.standard_normal((heads, head_dim, num_hashes, sum(factors) // 2))
    product = "x".join(map(str, factors))
    return Case(
        f"b{batch}-l{length}-h{heads}-d{head_dim}-r{num_hashes}-f{product}-{mask}",
        {
            "query": rng.standard_normal(shape).astype(np.float32),
            "rotations": rotations.astype(np.float32),
            "mask": random_mask(rng, batch, length, mask),
        },
        {"factors": factors},
    )


def cases() -> Iterator[Case]:
    """Every shape class: one token, odd sizes, one to three factors, each kind of mask."""
    yield make_case(batch=1, length=1, heads=1, head_dim=4, num_hashes=1, factors=(2,))
    yield make_case(batch=2, length=64, heads=2, head_dim=16, num_hashes=2, factors=(8,))
    yield make_case(batch=1, length=96, heads=3, head_dim=7, num_hashes=3, factors=(6, 10))
    yield make_case(batch=3, length=40, heads=2, head_dim=5, num_hashes=1, factors=(4, 2, 6))
    yield make_case(
        batch=3, length=128, heads=2, head_dim=64, num_hashes=2, factors=(64, 128), mask="ragged"
    )
    yield make_case(
        batch=2, length=48, heads=1, head_dim=8, num_hashes=2, factors=(512,), mask="holes"
    )
    yield make_case(
        batch=1, length=16, heads=1, head_dim=8, num_hashes=2, factors=(4,), mask="empty"
    )
    yield make_case(batch=1, length=160, heads=1, head_dim=128, num_hashes=2, factors=(512,))
    tied = make_case(batch=1, length=32, heads=2, head_dim=8, num_hashes=2, factors=(8, 4))
    # For a query of zeros all buckets are equal: the lowest index must win on every backend.
    tied.inputs["query"][:, ::2] = 0.0
    yield Case("ties", tied.inputs, tied.attributes)
    # Only the ratios of projections count, also outside the range of fp16.
    for name, scale in (("large", 2.0**40), ("small", 2.0**-40)):
        scaled = make_case(batch=1, length=96, heads=2, head_dim=16, num_hashes=2, factors=(16, 6))
        scaled.inputs["rotations"] *= np.float32(scale)
        yield Case(f"{name}-rotations", scaled.inputs, scaled.attributes)
