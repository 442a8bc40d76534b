"""Inputs that `LayerNormLinear` is tested on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reformer_ops.core.cases import Case
from reformer_ops.core.weight_panels import PANEL


def make_case(batch: int, length: int, hidden: int, columns: int, *, offset: float = 0.0) -> Case:
    """Normally distributed numbers; weights are scaled so that all outputs are of one size."""
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
    """Rows around tiles and blocks, few and many."""
    yield make_case(1, 1, 16, 16)
    yield make_case(1, 1, 64, 256)
    yield make_case(1, 2, 48, 80)
    yield make_case(2, 3, 32, 144)
    yield make_case(1, 97, 64, 112)
    yield make_case(3, 65, 32, 48)
    yield make_case(1, 800, 16, 32)  # many blocks, of which the last is short
    yield make_case(1, 1700, 32, 16)  # and larger ones
    yield make_case(1, 20, 48, 32, offset=100.0)
