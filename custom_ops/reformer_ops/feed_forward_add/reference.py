"""`FeedForwardAdd` in NumPy fp64: the reference of every implementation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.linear import layer_norm
from reformer_ops.core.weight_panels import matrix

Array = NDArray[Any]

_erf = np.vectorize(math.erf)

FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
}
"""The activation functions."""


def feed_forward_add(
    residual: Array,
    input: Array,
    norm_weight: Array,
    norm_bias: Array,
    up_weight: Array,
    up_bias: Array,
    down_weight: Array,
    down_bias: Array,
    *,
    epsilon: float,
    activation: str,
) -> NDArray[np.float64]:
    """`residual + down(activation(up(norm(input))))`, fp64.

    Args:
        residual, input: `[batch, length, hidden]`.
        norm_weight, norm_bias: `[hidden]`. The variance divides by `hidden`, not by `hidden - 1`.
        up_weight: `[feed_forward / 16, hidden, 16]`: the columns of a matrix `[hidden,
            feed_forward]`, 16 at a time.
        up_bias: `[feed_forward]`.
        down_weight: `[hidden / 16, feed_forward, 16]`, in the same layout.
        down_bias: `[hidden]`.
        epsilon: the epsilon of the norm.
        activation: a key of `FUNCTIONS`.

    Source: the second half of a reversible layer (Reformer, section 3), as in Hugging Face's
    `ReformerLayer` and `ChunkReformerFeedForward`.
    """
    normed = layer_norm(input, norm_weight, norm_bias, epsilon=epsilon)
    up = normed @ matrix(up_weight).astype(np.float64) + up_bias
    down = FUNCTIONS[activation](up) @ matrix(down_weight).astype(np.float64) + down_bias
    result: NDArray[np.float64] = residual + down
    return result
