"""`Int4FeedForwardAdd` in NumPy: the reference of every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.linear import layer_norm
from reformer_ops.feed_forward_add.reference import FUNCTIONS
from reformer_ops.int4_linear.reference import int4_linear

Array = NDArray[Any]


def int4_feed_forward_add(
    residual: Array,
    input: Array,
    norm_weight: Array,
    norm_bias: Array,
    up_weight: Array,
    up_step: Array,
    up_scale: Array,
    up_bias: Array,
    down_weight: Array,
    down_step: Array,
    down_scale: Array,
    down_bias: Array,
    *,
    epsilon: float,
    activation: str,
) -> NDArray[np.float64]:
    """`residual + down(activation(up(norm(input))))`, where `up` and `down` are `int4_linear`.

    The other arguments, and how norm and activation are rounded, are as in `int8_feed_forward_add`.

    Args:
        up_weight, up_step, up_scale: a matrix `[hidden, feed_forward]`, as `int4_linear` takes it.
        down_weight, down_step, down_scale: the same of `[feed_forward, hidden]`.
    """
    normed = layer_norm(input, norm_weight, norm_bias, epsilon=epsilon)
    up = int4_linear(normed, up_weight, up_step, up_scale, up_bias)
    down = int4_linear(FUNCTIONS[activation](up), down_weight, down_step, down_scale, down_bias)
    result: NDArray[np.float64] = residual + down
    return result
