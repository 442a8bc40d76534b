"""`AddNorm` in NumPy fp64: the reference of every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.linear import layer_norm

Array = NDArray[Any]


def add_norm(
    residual: Array, update: Array, weight: Array, bias: Array, *, epsilon: float
) -> tuple[Array, Array]:
    """(sum, normed), both `[batch, length, hidden]` fp64.

    `sum` is `residual + update` in the type of the inputs, with the rounding of that type.
    `normed` is its layer norm over the last axis; the variance divides by the size of the row.
    """
    total = residual + update
    return total.astype(np.float64), layer_norm(total, weight, bias, epsilon=epsilon)
