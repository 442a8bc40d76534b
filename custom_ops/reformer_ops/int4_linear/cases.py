"""Inputs that `Int4Linear` is tested on, on every backend."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reformer_ops.core.cases import Case
from reformer_ops.core.int4 import LARGEST_STEP, quantise


def make_case(batch: int, length: int, depth: int, columns: int) -> Case:
    """Normally distributed numbers; weights are scaled so that all outputs are of one size."""
    rng = np.random.default_rng((batch, length, depth, columns))
    weight, step, scale = quantise(rng.standard_normal((depth, columns)) / depth**0.5)
    return Case(
        f"b{batch}-n{length}-d{depth}-c{columns}",
        {
            "input": rng.standard_normal((batch, length, depth)).astype(np.float32),
            "weight": weight,
            "step": step,
            "scale": scale,
            "bias": rng.standard_normal(columns).astype(np.float32),
        },
        {},
    )


def cases() -> Iterator[Case]:
    """Few and many rows; depths around the blocks in which rows are rounded; the largest sums."""
    for batch, length, depth, columns in (
        (1, 1, 32, 16),
        (1, 1, 64, 256),
        (1, 2, 544, 80),
        (1, 3, 480, 144),
        (2, 2, 512, 48),
        (1, 7, 1568, 80),
        (3, 65, 96, 48),
        (1, 800, 32, 32),
        (1, 1700, 64, 16),
    ):
        yield make_case(batch, length, depth, columns)
    case = make_case(1, 6, 1024, 16)
    case.inputs["weight"][:] = 0  # integers of -8
    case.inputs["step"][:] = LARGEST_STEP
    case.inputs["input"][:] = 127  # all products and sums are exact, in integers and in fp32
    case.inputs["scale"][:] = 2**-20
    case.inputs["input"][0, 0] = 0
    yield Case("largest-sums", case.inputs, {})
