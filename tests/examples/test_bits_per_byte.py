"""The measurement of bits per byte, on models whose result is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bits_per_byte import bits_per_byte

TEXT = bytes(np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8))


def uniform(ids: np.ndarray) -> np.ndarray:
    return np.zeros((*ids.shape, 256), np.float32)


@pytest.mark.parametrize("window", [2, 7, 64, 999, 1000, 4096])
def test_a_model_that_knows_nothing_needs_eight_bits(window: int) -> None:
    assert bits_per_byte(TEXT, uniform, window) == pytest.approx(8.0, abs=1e-12)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 96, 97, 500])
def test_every_byte_counts_once_and_with_context(length: int) -> None:
    """The cost of a byte shows its context: a byte costs log2(1 + 255 exp(-context / 8)) bits."""
    window = 64
    contexts: list[int] = []

    def by_place(ids: np.ndarray) -> np.ndarray:
        scores = np.zeros((*ids.shape, 256))
        following = np.roll(ids, -1, axis=1)
        place = np.broadcast_to(np.arange(1, ids.shape[1] + 1), ids.shape)
        np.put_along_axis(scores, following[..., None], place[..., None] / 8.0, axis=-1)
        return scores

    for position in range(1, length):
        # The first window counts in full, a later one from its middle, the last one from the end of
        # the window before.
        if position < window:
            contexts.append(position)
        else:
            starts = [*range(0, length - window, window // 2), length - window]
            start = next(s for s in starts if s + window > position)
            contexts.append(position - start)
    expected = 8.0 + sum(math.log2(1 + 255 * math.exp(-c / 8)) for c in contexts)
    found = bits_per_byte(TEXT[:length], by_place, window)
    assert found == pytest.approx(expected / length, rel=1e-12)
    assert min((c for c in contexts[window - 1 :]), default=window // 2) >= window // 2
