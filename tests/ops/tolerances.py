"""The tolerances of docs/ops.md, as assertions."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.lsh_bucket.reference import bucket_margins
from reformer_ops.registry import OPS

from . import plain_torch

Array = NDArray[Any]

CLEAR = 1e-5
"""A hash decided by a larger margin than this is the same in fp32 on every machine."""

FLIPS = 1e-3
"""The largest share of decisions that may differ; their margins must be at most `CLEAR`."""

FLOOR = {"float32": 2**-20, "float16": 2**-10, "bfloat16": 2**-7}
"""The error allowed for rounding, relative to the largest output: one unit in the last place for
half types; eight for fp32, in which not only the output is rounded but also the sums."""


def reference(op: OpSpec) -> Callable[..., Array]:
    module = importlib.import_module(f"reformer_ops.{op.torch_name}.reference")
    function: Callable[..., Array] = getattr(module, op.torch_name)
    return function


@cache
def cases(op: OpSpec) -> tuple[Case, ...]:
    return tuple(importlib.import_module(f"reformer_ops.{op.torch_name}.cases").cases())


ALL_CASES = [(op, number) for op in OPS for number in range(len(cases(op)))]


def torch_arguments(op: OpSpec, case: Case, dtype: str) -> list[Any]:
    """Inputs and attributes in the order of the torch operator's arguments."""
    tensors: list[Any] = []
    for operand in op.inputs:
        tensor = torch.from_numpy(case.inputs[operand.name])
        tensors.append(tensor.to(getattr(torch, dtype)) if operand.dtype == "float" else tensor)
    return tensors + [case.attributes[attribute.name] for attribute in op.attributes]


def as_numpy(tensor: torch.Tensor) -> Array:
    """An output as an array; floats become fp32, because NumPy has no bfloat16."""
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def exact_in(case: Case, op: OpSpec, dtype: str) -> Case:
    """The case with its floats rounded to the model's type; all backends take these inputs."""
    rounded = {
        operand.name: torch.from_numpy(case.inputs[operand.name]).to(getattr(torch, dtype))
        for operand in op.inputs
        if operand.dtype == "float"
    }
    floats = {name: tensor.to(torch.float32).numpy() for name, tensor in rounded.items()}
    return replace(case, inputs={**case.inputs, **floats})


def expected(op: OpSpec, case: Case) -> Array:
    return reference(op)(**case.inputs, **case.attributes)


def check(op: OpSpec, case: Case, dtype: str, found: Array, wanted: Array | None = None) -> None:
    """Assert that `found` is within the tolerances of a case that is exact in `dtype`."""
    wanted = expected(op, case) if wanted is None else wanted
    assert found.shape == wanted.shape
    if op.outputs[0].dtype == "float":
        _check_floats(op, case, dtype, found, wanted)
    else:
        assert found.dtype == np.dtype(op.outputs[0].dtype)
        _check_buckets(case, found, wanted)


def _check_floats(op: OpSpec, case: Case, dtype: str, found: Array, wanted: Array) -> None:
    """The flash-attention rule: at most twice the error of plain PyTorch in the same type."""
    assert np.isfinite(found).all()
    bound = 2 * error(plain(op, case, dtype), wanted)
    bound += FLOOR[dtype] * float(np.abs(wanted).max())
    assert error(found, wanted) <= bound


def _check_buckets(case: Case, found: Array, wanted: Array) -> None:
    """Buckets are equal, except for a few decisions that are too close for fp32."""
    query, rotations = case.inputs["query"], case.inputs["rotations"]
    margins = bucket_margins(query, rotations, **case.attributes)
    # Zeros project to exact zeros. Such a tie is not a close decision: the lowest index wins.
    certain = (query == 0).all(axis=-1).transpose(0, 2, 1)[:, :, None]
    flips = found != wanted
    assert not (flips & (certain | (margins > CLEAR))).any()
    assert flips.sum() <= max(1, FLIPS * flips.size)


def plain(op: OpSpec, case: Case, dtype: str) -> Array:
    """Plain PyTorch's output in the given type."""
    tensors = torch_arguments(op, case, dtype)[: len(op.inputs)]
    output: torch.Tensor = getattr(plain_torch, op.torch_name)(*tensors, **case.attributes)
    return output.to(torch.float64).numpy()


def error(found: Array, wanted: Array) -> float:
    return float(np.abs(found.astype(np.float64) - wanted).max())
