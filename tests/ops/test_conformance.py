"""Every operator on every backend is within the tolerances of docs/ops.md for every case."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from numpy.typing import NDArray

from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec

from . import tolerances
from .backends import BACKENDS, Backend


@cache
def prepared(op: OpSpec, number: int, dtype: str) -> tuple[Case, NDArray[Any]]:
    """A case in the model's type and its reference output, made once for all backends."""
    case = tolerances.exact_in(tolerances.cases(op)[number], op, dtype)
    return case, tolerances.expected(op, case)


def calls() -> Iterator[Any]:
    """Every case on every backend in every type."""
    for backend in BACKENDS:
        for place, dtype in enumerate(backend.dtypes):
            for count, (op, number) in enumerate(tolerances.ALL_CASES):
                # Each type takes other cases than the previous type.
                late = backend.slow and (count + place) % 4
                name = f"{backend}-{dtype}-{op.name}-{tolerances.cases(op)[number].name}"
                marks = [pytest.mark.slow] if late else []
                yield pytest.param(backend, dtype, op, number, id=name, marks=marks)


@pytest.mark.parametrize(("backend", "dtype", "op", "number"), list(calls()))
def test_backend_keeps_the_law(backend: Backend, dtype: str, op: OpSpec, number: int) -> None:
    case, wanted = prepared(op, number, dtype)
    tolerances.check(op, case, dtype, backend.run(op, case, dtype), wanted)


@pytest.mark.parametrize(
    ("op", "number"),
    [
        pytest.param(op, number, id=f"{op.name}-{tolerances.cases(op)[number].name}")
        for op, number in tolerances.ALL_CASES
        if op.outputs[0].dtype == "float"
    ],
)
def test_the_yardstick_is_right(op: OpSpec, number: int) -> None:
    """Plain PyTorch in fp64 gives the numbers of the reference, by another algorithm."""
    case = tolerances.cases(op)[number]
    wanted = tolerances.expected(op, case)
    assert (
        tolerances.error(tolerances.plain(op, case, "float64"), wanted) <= 1e-12 * abs(wanted).max()
    )
