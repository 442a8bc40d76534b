"""Test inputs of all operators for all backends; the list of an operator is in its `cases.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """One call of an operator: inputs by name (floats are fp32) and attributes by name."""

    name: str
    inputs: Inputs
    attributes: dict[str, Any]


def random_mask(rng: np.random.Generator, batch: int, length: int, kind: str) -> NDArray[np.bool_]:
    """`[batch, length]`: "full", "ragged" (right padding, row 0 full), "holes" or "empty"."""
    if kind == "full":
        return np.ones((batch, length), np.bool_)
    if kind == "empty":
        return np.zeros((batch, length), np.bool_)
    if kind == "holes":
        return rng.random((batch, length)) < 0.7
    lengths = rng.integers(1, length + 1, size=batch)
    lengths[0] = length
    return np.arange(length)[None, :] < lengths[:, None]
