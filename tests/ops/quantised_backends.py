"""Runs a linear layer with weights of fewer bits on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reformer_ops import torch_ops
from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec

from .backends import QUANTISED_BACKENDS
from .tolerances import FLOOR, as_numpy, cases, exact_in, reference, torch_arguments

Array = NDArray[Any]
Backend = Callable[[Case, str], Array]


@cache
def backends(op: OpSpec) -> dict[str, Backend]:
    """By name. "torch" is the Python function, which refuses with an OpError."""
    function = getattr(torch_ops, op.torch_name)

    def by_function(case: Case, dtype: str) -> Array:
        return as_numpy(function(*torch_arguments(op, case, dtype)))

    return {
        **{name: partial(backend.run, op) for name, backend in QUANTISED_BACKENDS.items()},
        "torch": by_function,
    }


def calls(op: OpSpec) -> Iterator[Any]:
    """Every backend, type and case."""
    for backend, kind in QUANTISED_BACKENDS.items():
        for dtype in kind.dtypes:
            for number, case in enumerate(cases(op)):
                if case.name == "zeros-and-extremes" and dtype == "float16":
                    continue  # fp16 has no such numbers
                yield pytest.param(backend, dtype, number, id=f"{backend}-{dtype}-{case.name}")


@cache
def prepared(op: OpSpec, number: int, dtype: str) -> tuple[Case, Array]:
    """A case that is exact in a type, and its result."""
    case = exact_in(cases(op)[number], op, dtype)
    return case, reference(op)(**case.inputs)


def check(found: Array, wanted: Array, dtype: str) -> None:
    """Row by row: the rows of a case are of very different sizes."""
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    bound = 4 * FLOOR[dtype] * np.abs(wanted).max(axis=-1)
    assert (np.abs(found - wanted).max(axis=-1) <= bound).all()
