"""`LayerNormLinear` in NumPy fp64: the reference of every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.linear import layer_norm
from reformer_ops.core.weight_panels import matrix

Array = NDArray[Any]


def layer_norm_linear(
    input: Array, norm_weight: Array, norm_bias: Array, weight: Array, *, epsilon: float
) -> NDArray[np.float64]:
    """`norm(input) @ weight`, fp64.

    Args:
        input: `[batch, length, hidden]`.
        norm_weight, norm_bias: `[hidden]`. The variance divides by `hidden`, not by `hidden - 1`.
        weight: `[columns / 16, hidden, 16]`: the columns of a matrix `[hidden, columns]`, 16 at a
            time.
        epsilon: the epsilon of the norm.

    Returns:
        `[batch, length, columns]`.

    Source: the norm and a projection of an attention layer, as in Hugging Face's
    `ReformerAttention`.
    """
    normed = layer_norm(input, norm_weight, norm_bias, epsilon=epsilon)
    result: NDArray[np.float64] = normed @ matrix(weight).astype(np.float64)
    return result
