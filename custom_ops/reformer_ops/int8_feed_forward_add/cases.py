"""Test inputs of `Int8FeedForwardAdd`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reformer_ops.core.cases import Case
from reformer_ops.core.int8 import quantise
from reformer_ops.core.weight_panels import matrix
from reformer_ops.feed_forward_add import cases as plain


def make_case(batch: int, length: int, hidden: int, feed_forward: int, **options: Any) -> Case:
    """The case of `FeedForwardAdd` with weights of 8 bits; the options are the same."""
    case = plain.make_case(batch, length, hidden, feed_forward, **options)
    inputs = dict(case.inputs)
    for name in ("up", "down"):
        panels, scale = quantise(matrix(inputs[f"{name}_weight"]))
        inputs |= {f"{name}_weight": panels, f"{name}_scale": scale}
    return Case(case.name, inputs, case.attributes)


def cases() -> Iterator[Case]:
    """The cases of `FeedForwardAdd`, and more features than are rounded together."""
    for case in plain.cases():
        batch, length, hidden = case.inputs["input"].shape
        feed_forward = case.inputs["up_bias"].shape[0]
        offset = 100.0 if case.inputs["input"].mean() > 50 else 0.0
        activation = str(case.attributes["activation"])
        yield make_case(batch, length, hidden, feed_forward, activation=activation, offset=offset)
    yield make_case(1, 5, 528, 1040)
    yield make_case(1, 700, 32, 1040)
