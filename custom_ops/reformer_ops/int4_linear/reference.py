"""`Int4Linear` in NumPy: the reference of every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.int4 import integers
from reformer_ops.int8_linear.reference import rounded_product

Array = NDArray[Any]


def int4_linear(
    input: Array, weight: Array, step: Array, scale: Array, bias: Array
) -> NDArray[np.float64]:
    """`rounded(input) @ (integers * steps * scale) + bias`; rows are rounded as in `int8_linear`.

    Args:
        input: `[batch, length, depth]`.
        weight: `[columns / 16, depth / 8, 16, 4]` uint8: the integers of a matrix
            `[depth, columns]` plus 8, in panels of 16 columns. A byte holds two lines of a column:
            the lower 4 bits are of the first 4 of 8 lines, the upper ones of the other 4.
        step: `[columns / 16, depth / 32, 16]` int8: a factor of the integers for each block of 32
            lines of a column, from -15 to 15.
        scale: `[columns]` fp32.
        bias: `[columns]`.

    Returns:
        `[batch, length, columns]`.
    """
    return rounded_product(input, integers(weight, step), scale, bias)
