"""`LinearAdd` in NumPy fp64: the reference of every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.weight_panels import matrix

Array = NDArray[Any]


def linear_add(residual: Array, input: Array, weight: Array) -> NDArray[np.float64]:
    """`residual + input @ weight`, fp64.

    Args:
        residual: `[batch, length, hidden]`.
        input: `[batch, length, depth]`.
        weight: `[hidden / 16, depth, 16]`: the columns of a matrix `[depth, hidden]`, 16 at a time.

    Source: the output projection of an attention layer and the sum of a reversible layer (Reformer,
    section 3), as in Hugging Face's `ReformerSelfOutput` and `ReformerLayer`.
    """
    product = input.astype(np.float64) @ matrix(weight).astype(np.float64)
    result: NDArray[np.float64] = residual + product
    return result
