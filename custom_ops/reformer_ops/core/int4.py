"""Weights of 4 bits as the CPU kernels read them, and the constants of `Int4Linear`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_ops.core.int8 import QUAD, SMALLEST
from reformer_ops.core.weight_panels import PANEL

Array = NDArray[Any]

BLOCK = 32
"""Lines of a column that have one step."""

OCTET = 2 * QUAD
"""Lines of a column that lie together, two in a byte."""

ZERO_POINT = 8
"""Is added to the integers, from -8 to 7, which are stored without sign."""

LARGEST_STEP = 15
"""The largest magnitude of a step: an integer times a step has 8 bits."""


def fits(depth: int, columns: int) -> bool:
    """True if a matrix of this size can be stored with 4 bits."""
    return depth % BLOCK == 0 and columns % PANEL == 0


def integers(weight: Array, step: Array) -> NDArray[np.int8]:
    """The matrix `[depth, columns]` of integers times steps, from -120 to 120.

    Args:
        weight: `[columns / 16, depth / 8, 16, 4]` uint8.
        step: `[columns / 16, depth / 32, 16]` int8.
    """
    panels, octets, panel, quad = weight.shape
    halves = np.stack([weight & 15, weight >> 4], axis=2).astype(np.int8) - np.int8(ZERO_POINT)
    lines = halves.transpose(1, 2, 4, 0, 3).reshape(-1, BLOCK, panels * panel)
    steps = step.transpose(1, 0, 2).reshape(-1, 1, panels * panel)
    return (lines * steps).reshape(octets * 2 * quad, -1)


def quantise(matrix: Array) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.float32]]:
    """A matrix `[depth, columns]` as weight, step and the scale of each column, `[columns]`.

    The largest magnitude of a column is 120 times its scale. Each block has the step with the
    smallest sum of squared errors.
    """
    depth, columns = matrix.shape
    top = np.abs(matrix).max(axis=0)
    scale = np.where(top < SMALLEST, 1.0, top / (ZERO_POINT * LARGEST_STEP)).astype(np.float32)
    blocks = (matrix.astype(np.float32) / scale).reshape(-1, BLOCK, columns)
    best = np.full((len(blocks), 1, columns), np.inf, np.float32)
    step, whole = np.ones_like(best), np.zeros_like(blocks)
    for size in range(1, LARGEST_STEP + 1):
        for tried in (size, -size):
            rounded = np.rint(blocks / tried).clip(-ZERO_POINT, ZERO_POINT - 1)
            error = np.square(rounded * tried - blocks).sum(axis=1, keepdims=True)
            better = error < best
            best, step = np.where(better, error, best), np.where(better, tried, step)
            whole = np.where(better, rounded, whole)
    steps = step.reshape(-1, columns // PANEL, PANEL).transpose(1, 0, 2).astype(np.int8)
    return _packed(whole.reshape(depth, columns)), np.ascontiguousarray(steps), scale


def _packed(whole: Array) -> NDArray[np.uint8]:
    """Integers `[depth, columns]` from -8 to 7 -> `[columns / 16, depth / 8, 16, 4]`."""
    depth, columns = whole.shape
    stored = (whole + ZERO_POINT).astype(np.uint8)
    lines = stored.reshape(depth // OCTET, 2, QUAD, columns // PANEL, PANEL)
    low, high = lines.transpose(1, 3, 0, 4, 2)
    return np.ascontiguousarray(low | high << 4)
