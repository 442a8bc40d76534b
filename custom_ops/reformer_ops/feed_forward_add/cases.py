"""Test inputs of `FeedForwardAdd`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reformer_ops.core.cases import Case
from reformer_ops.core.linear import SIZES
from reformer_ops.core.weight_panels import PANEL
from reformer_ops.feed_forward_add.spec import ACTIVATIONS


def make_case(
    batch: int,
    length: int,
    hidden: int,
    feed_forward: int,
    *,
    activation: str = "relu",
    offset: float = 0.0,
) -> Case:
    """Normally distributed numbers; weights are scaled so that outputs of all cases are similar."""
    rng = np.random.default_rng((batch, length, hidden, feed_forward))
    stream = (batch, length, hidden)
    shapes = {
        "residual": stream,
        "input": stream,
        "norm_weight": (hidden,),
        "norm_bias": (hidden,),
        "up_weight": (feed_forward // PANEL, hidden, PANEL),
        "up_bias": (feed_forward,),
        "down_weight": (hidden // PANEL, feed_forward, PANEL),
        "down_bias": (hidden,),
    }
    inputs = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    inputs["input"] += np.float32(offset)
    inputs["up_weight"] /= np.float32(hidden**0.5)
    inputs["down_weight"] /= np.float32(feed_forward**0.5)
    name = f"b{batch}-n{length}-h{hidden}-f{feed_forward}-{activation}"
    return Case(name, inputs, {"epsilon": 1e-12, "activation": activation})


def cases() -> Iterator[Case]:
    """All sizes; a mean that is far from 0; every activation."""
    for sizes in SIZES:
        yield make_case(*sizes)
    yield make_case(1, 20, 48, 32, offset=100.0)
    for activation in ACTIVATIONS:
        yield make_case(2, 9, 32, 64, activation=activation)
