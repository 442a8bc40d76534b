"""Test inputs of `Int4FeedForwardAdd`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reformer_ops.core.cases import Case
from reformer_ops.core.int4 import quantise
from reformer_ops.core.weight_panels import matrix
from reformer_ops.feed_forward_add import cases as plain
from reformer_ops.feed_forward_add.spec import ACTIVATIONS


def make_case(batch: int, length: int, hidden: int, feed_forward: int, **options: Any) -> Case:
    """The case of `FeedForwardAdd` with weights of 4 bits; the options are the same."""
    case = plain.make_case(batch, length, hidden, feed_forward, **options)
    inputs = dict(case.inputs)
    for name in ("up", "down"):
        weight, step, scale = quantise(matrix(inputs[f"{name}_weight"]))
        inputs |= {f"{name}_weight": weight, f"{name}_step": step, f"{name}_scale": scale}
    return Case(case.name, inputs, case.attributes)


def cases() -> Iterator[Case]:
    """Few and many rows; more features than are rounded together; every activation."""
    for sizes in (
        (1, 1, 32, 32),
        (1, 1, 64, 256),
        (1, 2, 544, 1056),
        (3, 65, 32, 64),
        (1, 700, 32, 1056),
        (1, 1700, 32, 32),
    ):
        yield make_case(*sizes)
    yield make_case(1, 20, 64, 32, offset=100.0)
    for activation in ACTIVATIONS:
        yield make_case(2, 9, 32, 64, activation=activation)
