"""Test inputs of `LinearAdd`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reformer_ops.core.cases import Case
from reformer_ops.core.linear import SIZES
from reformer_ops.core.weight_panels import PANEL


def make_case(batch: int, length: int, depth: int, hidden: int) -> Case:
    """Normally distributed numbers; weights are scaled so that outputs of all cases are similar."""
    rng = np.random.default_rng((batch, length, depth, hidden))
    shapes = {
        "residual": (batch, length, hidden),
        "input": (batch, length, depth),
        "weight": (hidden // PANEL, depth, PANEL),
    }
    inputs = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    inputs["weight"] /= np.float32(depth**0.5)
    return Case(f"b{batch}-n{length}-d{depth}-h{hidden}", inputs, {})


def cases() -> Iterator[Case]:
    """All sizes; depths that are not multiples of a vector."""
    for sizes in SIZES:
        yield make_case(*sizes)
    yield make_case(1, 1, 7, 256)
    yield make_case(2, 3, 30, 144)
    yield make_case(3, 65, 33, 48)
    yield make_case(1, 1700, 5, 16)
