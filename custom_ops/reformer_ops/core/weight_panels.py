"""The layout of weights for the CPU kernels of linear layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PANEL = 16
"""Columns of a panel. A matrix `[depth, columns]` is stored as `[columns / 16, depth, 16]`."""


def panels(matrix: Array) -> Array:
    """A matrix `[depth, columns]` -> `[columns / 16, depth, 16]`, contiguous."""
    depth, columns = matrix.shape
    return np.ascontiguousarray(matrix.reshape(depth, columns // PANEL, PANEL).transpose(1, 0, 2))


def matrix(panels: Array) -> Array:
    """`[panels, depth, 16]` -> the matrix `[depth, columns]`."""
    return panels.transpose(1, 0, 2).reshape(panels.shape[1], -1)
