"""`AddNorm` in NumPy fp64: the reference of every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def add_norm(
    residual: Array, update: Array, weight: Array, bias: Array, *, epsilon: float
) -> tuple[Array, Array]:
    """(sum, normed), both `[batch, length, hidden]` fp64.

    `sum` is that of `residual` and `update` in the type they come in, rounded as that type rounds.
    `normed` is its layer norm over the last axis: variances are of the whole row, not of a sample.
    """
    total = residual + update
    wide = total.astype(np.float64)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt(variance + epsilon) * weight.astype(np.float64)
    return wide, normed + bias.astype(np.float64)
