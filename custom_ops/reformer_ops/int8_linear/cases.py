"""Inputs that `Int8Linear` is tested on, on every backend."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reformer_ops.core.cases import Case
from reformer_ops.core.int8 import quantise
from reformer_ops.core.linear import SIZES


def make_case(batch: int, length: int, depth: int, columns: int) -> Case:
    """Normally distributed numbers; weights are scaled so that all outputs are of one size."""
    rng = np.random.default_rng((batch, length, depth, columns))
    weight, scale = quantise(rng.standard_normal((depth, columns)) / depth**0.5)
    return Case(
        f"b{batch}-n{length}-d{depth}-c{columns}",
        {
            "input": rng.standard_normal((batch, length, depth)).astype(np.float32),
            "weight": weight,
            "scale": scale,
            "bias": rng.standard_normal(columns).astype(np.float32),
        },
        {},
    )


def cases() -> Iterator[Case]:
    """All sizes; depths around the blocks; zeros, tiny and huge numbers."""
    for sizes in SIZES:
        yield make_case(*sizes)
    yield make_case(1, 3, 4, 16)
    yield make_case(2, 7, 508, 32)
    yield make_case(1, 5, 516, 144)
    yield make_case(1, 9, 1536, 80)
    case = make_case(1, 6, 1024, 16)
    rows = case.inputs["input"][0]
    rows[0] = 0
    rows[1, 512:] = 0
    rows[2] *= 1e-35
    rows[3] *= 1e30
    rows[4, 600] = 1000
    yield Case("zeros-and-extremes", case.inputs, {})
