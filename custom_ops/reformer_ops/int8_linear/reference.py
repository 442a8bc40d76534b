"""`Int8Linear` in NumPy: the reference of every implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.int8 import BLOCK, LARGEST, SMALLEST, integers

Array = NDArray[Any]


def int8_linear(input: Array, weight: Array, scale: Array, bias: Array) -> NDArray[np.float64]:
    """`rounded(input) @ (weight * scale) + bias`; products and sums in fp64.

    Each row is rounded in blocks of `BLOCK` numbers: to integers from -127 to 127, times a step
    that is the block's largest magnitude / 127. Steps and integers are computed in fp32, so that
    every implementation finds the same integers.

    Args:
        input: `[batch, length, depth]`.
        weight: `[columns / 16, depth / 4, 16, 4]` uint8: the integers of a matrix
            `[depth, columns]` plus 128, in panels of 16 columns, of which 4 lines lie together.
        scale: `[columns]` fp32.
        bias: `[columns]`.

    Returns:
        `[batch, length, columns]`.
    """
    return rounded_product(input, integers(weight), scale, bias)


def rounded_product(input: Array, whole: Array, scale: Array, bias: Array) -> NDArray[np.float64]:
    """`int8_linear` with the integers of the weights as a matrix `[depth, columns]`."""
    matrix = whole.astype(np.float64) * scale.astype(np.float64)
    result = bias.astype(np.float64) + np.zeros((*input.shape[:-1], matrix.shape[1]))
    for first in range(0, input.shape[-1], BLOCK):
        block = input[..., first : first + BLOCK].astype(np.float32)
        top = np.abs(block).max(axis=-1, keepdims=True)
        step = np.where(top < SMALLEST, np.float32(1), top / np.float32(LARGEST))
        rounded = np.rint(block / step).astype(np.float64) * step.astype(np.float64)
        result += rounded @ matrix[first : first + BLOCK]
    return result
