"""Every operator, on every backend, over every case: the numeric law of docs/ops.md."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from numpy.typing import NDArray

from reformer_ops.cases import Case
from reformer_ops.spec import OpSpec

from . import law
from .backends import BACKENDS, Backend


@cache
def prepared(op: OpSpec, number: int, dtype: str) -> tuple[Case, NDArray[Any]]:
    """A case in the model's type and its reference output, made once for all backends."""
    case = law.exact_in(law.cases(op)[number], op, dtype)
    return case, law.expected(op, case)


@pytest.mark.parametrize(
    ("op", "number"),
    [
        pytest.param(op, number, id=f"{op.name}-{law.cases(op)[number].name}")
        for op, number in law.ALL_CASES
    ],
)
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        pytest.param(backend, dtype, id=f"{backend}-{dtype}")
        for backend in BACKENDS
        for dtype in backend.dtypes
    ],
)
def test_backend_keeps_the_law(backend: Backend, dtype: str, op: OpSpec, number: int) -> None:
    case, wanted = prepared(op, number, dtype)
    law.check(op, case, dtype, backend.run(op, case, dtype), wanted)


@pytest.mark.parametrize(
    ("op", "number"),
    [
        pytest.param(op, number, id=f"{op.name}-{law.cases(op)[number].name}")
        for op, number in law.ALL_CASES
        if op.outputs[0].dtype == "float"
    ],
)
def test_the_yardstick_is_right(op: OpSpec, number: int) -> None:
    """Plain PyTorch in fp64 gives the reference's numbers, by another way."""
    case = law.cases(op)[number]
    wanted = law.expected(op, case)
    assert law.error(law.plain(op, case, "float64"), wanted) <= 1e-12 * abs(wanted).max()
