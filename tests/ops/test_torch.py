"""The operators as part of torch: schemas, shapes without data, graphs, gradients, autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from reformer_ops.core.spec import OpSpec
from reformer_ops.registry import LINEAR, OPS, QUANTISED

from . import plain_torch
from .examples import EXAMPLES
from .tolerances import cases, torch_arguments

by_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
by_attention = pytest.mark.parametrize(
    "op", [op for op in OPS if op.outputs[0].dtype == "float"], ids=lambda op: op.name
)


def operator(op: OpSpec) -> Any:
    return getattr(torch.ops.reformer, op.torch_name).default


def arguments(op: OpSpec, dtype: str = "float32") -> list[Any]:
    return torch_arguments(op, EXAMPLES[op.name], dtype)


@by_op
def test_opcheck(op: OpSpec) -> None:
    opcheck(operator(op), tuple(arguments(op)))


@pytest.mark.parametrize("op", [*QUANTISED, *LINEAR], ids=lambda op: op.name)
def test_opcheck_of_linear_layers(op: OpSpec) -> None:
    for case in cases(op)[1:4]:
        opcheck(operator(op), tuple(torch_arguments(op, case, "float32")))


@pytest.mark.parametrize(
    "utility",
    [
        "test_autograd_registration",
        pytest.param("test_aot_dispatch_dynamic", marks=pytest.mark.slow),
    ],
)
@by_attention
def test_opcheck_with_gradients(op: OpSpec, utility: str) -> None:
    given = [
        value.requires_grad_() if torch.is_tensor(value) and value.is_floating_point() else value
        for value in arguments(op)
    ]
    opcheck(operator(op), tuple(given), test_utils=utility)


@by_op
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("length", [3, 12])
def test_shape_type_and_strides_without_data(op: OpSpec, dtype: str, length: int) -> None:
    given = [
        value[:, :length] if torch.is_tensor(value) and value.shape[1] == 12 else value
        for value in arguments(op, dtype)
    ]
    given = [
        value[..., :length] if torch.is_tensor(value) and value.dtype == torch.int32 else value
        for value in given
    ]
    real = operator(op)(*given)
    assert real.is_contiguous()
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(v) if torch.is_tensor(v) else v for v in given]
        fake = operator(op)(*fakes)
    assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())
    meta = operator(op)(*(v.to("meta") if torch.is_tensor(v) else v for v in given))
    assert (meta.shape, meta.dtype) == (real.shape, real.dtype)


@by_op
def test_any_strides_in(op: OpSpec) -> None:
    """The layers of the model pass views: of one projection, or of a transpose."""
    given = arguments(op)
    views = [
        torch.stack([v, v], dim=-1)[..., 0].transpose(0, 1).contiguous().transpose(0, 1)
        if torch.is_tensor(v)
        else v
        for v in given
    ]
    assert not any(v.is_contiguous() for v in views if torch.is_tensor(v))
    torch.testing.assert_close(operator(op)(*views), operator(op)(*given))


@by_op
def test_inputs_are_left_alone(op: OpSpec) -> None:
    given = arguments(op)
    before = [v.clone() for v in given if torch.is_tensor(v)]
    operator(op)(*given)
    for value, copy in zip((v for v in given if torch.is_tensor(v)), before, strict=True):
        assert torch.equal(value, copy)


class Calls(torch.nn.Module):
    """The operator with its attributes, and an addition after it."""

    def __init__(self, op: OpSpec) -> None:
        super().__init__()
        self.op = operator(op)
        self.attributes = arguments(op)[len(op.inputs) :]

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.op(*tensors, *self.attributes) + 1
        return result


@by_op
def test_export_keeps_one_node(op: OpSpec) -> None:
    """With a dynamic batch and length."""
    tensors = tuple(arguments(op)[: len(op.inputs)])
    open_axes = {"batch": torch.export.Dim("batch"), "length": torch.export.Dim("length")}
    shapes = tuple(
        {place: open_axes[axis] for place, axis in enumerate(operand.axes) if axis in open_axes}
        for operand in op.inputs
    )
    program = torch.export.export(Calls(op), tensors, dynamic_shapes=(shapes,))
    assert [n.target for n in program.graph.nodes].count(operator(op)) == 1
    half = [
        tensor[
            tuple(
                slice(0, 4 if axis == "length" else 1 if axis == "batch" else None)
                for axis in operand.axes
            )
        ]
        for operand, tensor in zip(op.inputs, tensors, strict=True)
    ]
    torch.testing.assert_close(program.module()(*half), Calls(op)(*half))


@by_op
def test_compile_keeps_one_node(op: OpSpec) -> None:
    seen: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        seen.extend(node.target for node in graph.graph.nodes)
        return graph.forward

    torch._dynamo.reset()
    tensors = arguments(op)[: len(op.inputs)]
    compiled = torch.compile(Calls(op), backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), Calls(op)(*tensors))
    assert seen.count(operator(op)) == 1


@by_op
def test_autocast_changes_nothing(op: OpSpec) -> None:
    """Hashing and softmax compute in fp32, even if autocast would choose another type."""
    given = arguments(op)
    with torch.autocast("cpu", torch.bfloat16):
        found = operator(op)(*given)
    torch.testing.assert_close(found, operator(op)(*given), rtol=0, atol=0)


@by_attention
def test_gradients(op: OpSpec) -> None:
    """The gradients are those of plain PyTorch, also if only some inputs require one."""
    floats = [operand.name for operand in op.inputs if operand.dtype == "float"]
    case = EXAMPLES[op.name]
    upstream = torch.randn(case.inputs["value"].shape, generator=torch.Generator().manual_seed(0))

    def gradients(function: Callable[..., torch.Tensor], wanted: list[str]) -> list[torch.Tensor]:
        tensors = {name: torch.from_numpy(array) for name, array in case.inputs.items()}
        leaves = [tensors[name].clone().requires_grad_() for name in wanted]
        tensors.update(zip(wanted, leaves, strict=True))
        output = function(**tensors, **case.attributes)
        return list(torch.autograd.grad(output, leaves, upstream))

    for wanted in (floats, floats[-1:]):
        found = gradients(getattr(torch.ops.reformer, op.torch_name), wanted)
        expected = gradients(getattr(plain_torch, op.torch_name), wanted)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
