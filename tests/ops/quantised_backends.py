"""Runs a linear layer with weights of fewer bits on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import reformer_ops.torch_ops
from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE

from .isa_libraries import isa_libraries
from .onnx_models import Form, cached_session
from .tolerances import FLOOR, as_numpy, cases, exact_in, reference, torch_arguments

Array = NDArray[Any]
Backend = Callable[[Case, str], Array]


def by_torch(op: OpSpec, operator: Callable[..., torch.Tensor], case: Case, dtype: str) -> Array:
    return as_numpy(operator(*torch_arguments(op, case, dtype)))


def by_onnxruntime(
    op: OpSpec, case: Case, dtype: str, *, form: Form, library: Path | None = None
) -> Array:
    session = cached_session(op.name, (), dtype, form, library=library)
    floats = {name: case.inputs[name].astype(dtype) for name in ("input", "bias")}
    found: Array = session.run(None, {**case.inputs, **floats})[0]
    return found


@cache
def backends(op: OpSpec) -> dict[str, Backend]:
    """By name."""
    operator = getattr(reformer_ops.torch_ops, op.torch_name)
    return {
        "torch-portable": partial(by_torch, op, PORTABLE[op.torch_name]),
        "torch": partial(by_torch, op, operator),
        "function": partial(by_onnxruntime, op, form="function"),
        "inlined": partial(by_onnxruntime, op, form="inlined"),
        **{
            f"native-{isa}": partial(by_onnxruntime, op, form="node", library=library)
            for isa, library in isa_libraries().items()
        },
    }


def calls(op: OpSpec) -> Iterator[Any]:
    """Every backend, type and case."""
    for backend in backends(op):
        floats = ("float32", "float16", "bfloat16")
        for dtype in floats if backend.startswith("torch") else floats[:2]:
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
