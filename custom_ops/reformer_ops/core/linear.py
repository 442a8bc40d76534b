"""The common part of the references and cases of linear operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SIZES = (
    (1, 1, 16, 16),
    (1, 1, 64, 256),
    (1, 2, 48, 80),
    (2, 3, 32, 144),
    (1, 97, 64, 112),
    (3, 65, 32, 48),
    (1, 800, 16, 32),  # many blocks; the last one is short
    (1, 1700, 32, 16),  # larger blocks
)
"""Batch, length, and two sizes of a layer: few and many rows, near sizes of tiles and blocks."""


def layer_norm(rows: Array, weight: Array, bias: Array, *, epsilon: float) -> NDArray[np.float64]:
    """The layer norm of `[.., hidden]` in fp64; the variance divides by the size of the row."""
    wide = rows.astype(np.float64)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    normed: NDArray[np.float64] = centred / np.sqrt(variance + epsilon) * weight.astype(np.float64)
    return normed + bias.astype(np.float64)
