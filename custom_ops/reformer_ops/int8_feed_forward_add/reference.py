"""`Int8FeedForwardAdd` in NumPy: the reference of every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.linear import layer_norm
from reformer_ops.feed_forward_add.reference import FUNCTIONS
from reformer_ops.int8_linear.reference import int8_linear

Array = NDArray[Any]


def int8_feed_forward_add(
    residual: Array,
    input: Array,
    norm_weight: Array,
    norm_bias: Array,
    up_weight: Array,
    up_scale: Array,
    up_bias: Array,
    down_weight: Array,
    down_scale: Array,
    down_bias: Array,
    *,
    epsilon: float,
    activation: str,
) -> NDArray[np.float64]:
    """`residual + down(activation(up(norm(input))))`, where `up` and `down` are `int8_linear`.

    Norm and activation are computed in fp64 and rounded to fp32. An implementation that computes
    them in fp32 may round a number that lies between two integers to the other one.

    Args:
        residual, input: `[batch, length, hidden]`.
        norm_weight, norm_bias: `[hidden]`. The variance divides by `hidden`, not by `hidden - 1`.
        up_weight, up_scale: the integers and scales of a matrix `[hidden, feed_forward]`, as
            `int8_linear` takes them.
        up_bias: `[feed_forward]`.
        down_weight, down_scale: the same of `[feed_forward, hidden]`.
        down_bias: `[hidden]`.
        epsilon: the epsilon of the norm.
        activation: a key of `FUNCTIONS`.
    """
    normed = layer_norm(input, norm_weight, norm_bias, epsilon=epsilon)
    up = int8_linear(normed, up_weight, up_scale, up_bias)
    down = int8_linear(FUNCTIONS[activation](up), down_weight, down_scale, down_bias)
    result: NDArray[np.float64] = residual + down
    return result
