"""The margin of a hash decision; it determines whether two runtimes may disagree about it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from reformer_ops.lsh_bucket.reference import bucket_margins, lsh_bucket


def query_of(*values: float) -> NDArray[np.float64]:
    return np.array(values).reshape(1, 1, 1, -1)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e6])
@pytest.mark.parametrize(
    ("query", "factors", "gap"),
    [
        ((1e-7, 1.0), (2,), 2e-7),  # one projection: it or its negative
        ((1e-7, 1.0), (2, 2), 2e-7),  # the smaller margin of the two factors
        ((1.0, 1.0 + 1e-7), (4,), 1e-7),
        ((1.0, -1.0 - 1e-7), (4,), 1e-7),
        ((3.0, 4.0), (4,), 1.0),
        ((3.0, 4.0), (2, 2), 6.0),
        ((0.0, 1.0), (2,), 0.0),
    ],
)
def test_distance_of_the_best_from_the_second_best(
    scale: float, query: tuple[float, float], factors: tuple[int, ...], gap: float
) -> None:
    columns = sum(factors) // 2
    rotations = np.eye(2)[:, :columns].reshape(1, 2, 1, columns)
    usual = np.hypot(*query) * np.sqrt(0.5)  # of the entries of the matrix, half are 1
    found = bucket_margins(query_of(*query) * scale, rotations, factors=factors)
    np.testing.assert_allclose(found.item(), gap / usual, rtol=1e-6)


def test_a_query_of_zeros_has_no_margin() -> None:
    found = bucket_margins(query_of(0, 0), np.ones((1, 2, 1, 1)), factors=(2,))
    assert found.item() == 0


def test_no_factors() -> None:
    with pytest.raises(ValueError, match="factors is empty"):
        bucket_margins(query_of(1, 0), np.ones((1, 2, 1, 0)), factors=())


@pytest.mark.parametrize("factors", [(2,), (4,), (2, 2), (8, 6), (64,)])
def test_a_little_noise_flips_nothing_but_close_decisions(factors: tuple[int, ...]) -> None:
    """Noise moves only queries with a margin about as small as the noise, for all factors."""
    rng = np.random.default_rng(0)
    query = rng.standard_normal((1, 20_000, 1, 16))
    rotations = rng.standard_normal((1, 16, 1, sum(factors) // 2))
    mask = np.ones(query.shape[:2], np.bool_)
    noisy = query * (1 + 1e-3 * rng.standard_normal(query.shape))
    flips = lsh_bucket(query, rotations, mask, factors=factors) != lsh_bucket(
        noisy, rotations, mask, factors=factors
    )
    margins = bucket_margins(query, rotations, factors=factors)
    assert flips.any()
    assert margins[flips].max() < 1e-2
