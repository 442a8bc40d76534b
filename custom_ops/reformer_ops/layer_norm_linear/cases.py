"""Test inputs of `LayerNormLinear`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reformer_ops.core.cases import Case
from reformer_ops.core.linear import SIZES
from reformer_ops.core.weight_panels import PANEL


def make_case(batch: int, length: int, hidden: int, columns: int, *, offset: float = 0.0) -> Case:
    """Normally distributed numbers; weights are scaled so that outputs of all cases are similar."""
    rng = np.random.default_rng((batch, length, hidden, columns))
    shapes = {
        "input": (batch, length, hidden),
        "norm_weight": (hidden,),
        "norm_bias": (hidden,),
        "weight": (columns // PANEL, hidden, PANEL),
    }
    inputs = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    inputs["input"] += np.float32(offset)
    inputs["weight"] /= np.float32(hidden**0.5)
    return Case(f"b{batch}-n{length}-h{hidden}-c{columns}", inputs, {"epsilon": 1e-12})


def cases() -> Iterator[Case]:
    """All sizes; a mean that is far from 0."""
    for sizes in SIZES:
        yield make_case(*sizes)
    yield make_case(1, 20, 48, 32, offset=100.0)
