"""Gradients of the attention operators from every implementation, and their tolerances.

With dropout (`with_dropout`) the outputs are checked here too; no other test checks them.

The exact values come from plain PyTorch in fp64, differentiated by torch. This uses none of our
formulas, and its outputs are those of the reference (`test_the_yardstick_is_right`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reformer_ops import torch_ops
from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE
from reformer_ops.registry import OPS, by_onnx_name

from . import plain_torch, tolerances
from .tolerances import torch_arguments
from .triton_interpreter import interpret

Array = NDArray[Any]

DROPOUT = 0.3
ATTENTIONS = [op for op in OPS if op.outputs[0].dtype == "float"]
CASES = [(op, number) for op, number in tolerances.ALL_CASES if op in ATTENTIONS]
DTYPES = ("float32", "float16", "bfloat16")


def upstream(case: Case, dtype: str, seed: int = 1) -> torch.Tensor:
    """A gradient for the output, `[batch, length, heads, head_dim]`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(case.inputs["value"].shape, generator=generator).to(getattr(torch, dtype))


def with_dropout(case: Case, dropout: float, seed: int = 7) -> Case:
    """The case with the seed and the dropout that `op.with_lse` takes."""
    return replace(
        case,
        inputs={**case.inputs, "seed": np.array(seed)},
        attributes={**case.attributes, "dropout": dropout},
    )


def as_taken(op: OpSpec, case: Case) -> OpSpec:
    """`op`, or `op.with_lse` if the case has dropout."""
    return op.with_lse if "dropout" in case.attributes else op


def float_inputs(op: OpSpec) -> list[str]:
    return [operand.name for operand in op.inputs if operand.dtype == "float"]


def differentiate(
    function: Callable[..., torch.Tensor],
    op: OpSpec,
    case: Case,
    dtype: str,
    wanted: Sequence[str] = (),
) -> list[torch.Tensor]:
    """The gradients by torch's autograd of the inputs `wanted`; by default, of all float inputs."""
    return run_and_differentiate(function, op, case, dtype, wanted)[1:]


def run_and_differentiate(
    function: Callable[..., torch.Tensor],
    op: OpSpec,
    case: Case,
    dtype: str,
    wanted: Sequence[str] = (),
    seed: int = 1,
) -> list[torch.Tensor]:
    """The output, then its gradients; the seed is that of `upstream`."""
    arguments = torch_arguments(op, case, dtype)
    tensors = dict(zip(case_inputs(op), arguments, strict=False))
    leaves = [tensors[name].requires_grad_() for name in wanted or float_inputs(op)]
    output = function(*arguments)
    gradient = upstream(case, dtype, seed).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, gradient)]


def python_function(op: OpSpec, case: Case, **options: Any) -> Callable[..., torch.Tensor]:
    """The function that models call, as a function of the operator's arguments."""
    function = getattr(torch_ops, op.torch_name)
    return lambda *given: function(*given[: len(op.inputs)], **case.attributes, **options)


def bits(op: OpSpec, case: Case, dtype: str) -> bytes:
    """The bytes of the output and its gradients."""
    op = as_taken(op, case)
    found = run_and_differentiate(output_of(op), op, case, dtype)
    return b"".join(tensor.numpy().tobytes() for tensor in found)


def case_inputs(op: OpSpec) -> list[str]:
    return [operand.name for operand in op.inputs]


def operator(op: OpSpec) -> Any:
    return getattr(torch.ops.reformer, op.torch_name).default


def output_of(op: OpSpec) -> Callable[..., torch.Tensor]:
    """The operator, but without the logsumexp that it may also return."""

    def run(*arguments: Any) -> torch.Tensor:
        result = operator(op)(*arguments)
        output: torch.Tensor = result if len(op.outputs) == 1 else result[0]
        return output

    return run


def plain(op: OpSpec) -> Callable[..., torch.Tensor]:
    """The plain PyTorch function, with the arguments of the operator."""
    function = getattr(plain_torch, op.torch_name.removesuffix("_with_lse"))
    names = case_inputs(op) + [attribute.name for attribute in op.attributes]
    return lambda *arguments: function(**dict(zip(names, arguments, strict=True)))


def by_torch(op_name: str, case: Case, dtype: str) -> list[Array]:
    """The kernels that training uses: those of torch's dispatcher, native if installed."""
    op = as_taken(by_onnx_name(op_name), case)
    found = run_and_differentiate(output_of(op), op, case, dtype)
    return [tensor.float().numpy() for tensor in found]


def by_portable(op_name: str, case: Case, dtype: str) -> list[Array]:
    return _by_kernels(PORTABLE.__getitem__, op_name, case, dtype)


def by_triton(op_name: str, case: Case, dtype: str) -> list[Array]:
    """The Triton kernels in the interpreter."""
    return _by_kernels(lambda name: partial(interpret, name), op_name, case, dtype)


def _by_kernels(
    kernel: Callable[[str], Callable[..., Any]], op_name: str, case: Case, dtype: str
) -> list[Array]:
    """`kernel` gives the function of an operator by its name in torch."""
    op = by_onnx_name(op_name)
    forward = op.with_lse
    if as_taken(op, case) != forward:
        case = with_dropout(case, 0.0)
    arguments = torch_arguments(forward, case, dtype)
    tensors, attributes = arguments[: len(forward.inputs)], arguments[len(forward.inputs) :]
    outputs = kernel(forward.torch_name)(*arguments)
    gradient = upstream(case, dtype)
    found = kernel(op.backward.torch_name)(*tensors, *outputs, gradient, *attributes)
    return [tensor.float().numpy() for tensor in (outputs[0], *found)]


@dataclass(frozen=True)
class Expected:
    """The exact output and gradients, and the largest error allowed for each."""

    truth: list[Array]
    bounds: list[float]


def expected(op: OpSpec, case: Case, dtype: str) -> Expected:
    """The tolerances of a case that is exact in `dtype`.

    The allowance for rounding is relative to the largest of all gradients, because some gradients
    are only the remainder of terms that cancel, such as those of a query that sees one key. The
    yardstick is the largest error of plain PyTorch for three upstream gradients: that for a single
    one is up to three times smaller by chance.
    """
    op = as_taken(op, case)

    def run(dtype: str, seed: int) -> list[Array]:
        found = run_and_differentiate(plain(op), op, case, dtype, seed=seed)
        return [tensor.double().numpy() for tensor in found]

    truth = run("float64", 1)
    errors = [
        [
            tolerances.error(*pair)
            for pair in zip(run(dtype, seed), run("float64", seed), strict=True)
        ]
        for seed in (1, 2, 3)
    ]
    largest = [float(np.abs(wanted).max()) for wanted in truth]
    largest[1:] = [max(largest[1:])] * len(largest[1:])
    bounds = [
        2 * max(usual) + tolerances.FLOOR[dtype] * most
        for usual, most in zip(zip(*errors, strict=True), largest, strict=True)
    ]
    return Expected(truth, bounds)


def check(op: OpSpec, wanted: Expected, found: list[Array]) -> None:
    """Assert that this output and these gradients are within the tolerances."""
    names = ["output", *float_inputs(op)]
    for name, array, truth, bound in zip(names, found, wanted.truth, wanted.bounds, strict=True):
        assert array.shape == truth.shape, name
        assert np.isfinite(array).all(), name
        assert tolerances.error(array, truth) <= bound, name


def numeric_derivatives_agree(op_name: str, case: Case) -> bool:
    """Run gradcheck in fp64. The process must run the portable operators."""
    op = as_taken(by_onnx_name(op_name), case)
    arguments = torch_arguments(op, case, "float64")
    tensors, attributes = arguments[: len(op.inputs)], arguments[len(op.inputs) :]
    for tensor in tensors:
        tensor.requires_grad_(tensor.is_floating_point())
    function = partial(_call, output_of(op), attributes)
    return torch.autograd.gradcheck(function, tensors, fast_mode=False)


def _call(function: Any, attributes: list[Any], *tensors: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = function(*tensors, *attributes)
    return result
