"""Weights of 8 bits as the CPU kernels read them, and the constants of `Int8Linear`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.weight_panels import PANEL

Array = NDArray[Any]

BLOCK = 512
"""Numbers of a row that are rounded together."""

LARGEST = 127
"""The largest integer, of rows and of weights."""

SMALLEST = 1e-30
"""A block whose largest magnitude is less than this is rounded to zeros."""

ZERO_POINT = 128
"""Is added to the integers of weights, which are stored without sign."""

QUAD = 4
"""Lines of a column that lie together: processors multiply and sum 4 numbers at once."""


def fits(depth: int, columns: int) -> bool:
    """True if a matrix of this size can be stored in panels."""
    return depth % QUAD == 0 and columns % PANEL == 0


def int8_panels(matrix: Array) -> NDArray[np.uint8]:
    """Integers `[depth, columns]` from -127 to 127 -> `[columns / 16, depth / 4, 16, 4]` uint8."""
    depth, columns = matrix.shape
    stored = (matrix.astype(np.int16) + ZERO_POINT).astype(np.uint8)
    quads = stored.reshape(depth // QUAD, QUAD, columns // PANEL, PANEL)
    return np.ascontiguousarray(quads.transpose(2, 0, 3, 1))


def integers(panels: Array) -> NDArray[np.int8]:
    """The matrix `[depth, columns]` that `int8_panels` was given."""
    count, quads, panel, quad = panels.shape
    lines = panels.transpose(1, 3, 0, 2).reshape(quads * quad, count * panel)
    return (lines.astype(np.int16) - ZERO_POINT).astype(np.int8)


def quantise(matrix: Array) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A matrix `[depth, columns]` as panels and the scale of each column, `[columns]`."""
    whole, scale = round_columns(matrix)
    return int8_panels(whole), scale


def round_columns(matrix: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix `[depth, columns]` as integers from -127 to 127 and the scale of each column.

    The largest magnitude of a column is 127 times its scale.
    """
    wide = matrix.astype(np.float64)
    top = np.abs(wide).max(axis=0)
    scale = np.where(top < SMALLEST, 1.0, top / LARGEST).astype(np.float32)
    return np.rint(wide / scale).clip(-LARGEST, LARGEST).astype(np.int8), scale
