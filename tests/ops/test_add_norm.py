"""`AddNorm`: its body in ONNX Runtime, its kernel as emulated PTX and compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from reformer_ops.add_norm.reference import add_norm
from reformer_ops.add_norm.spec import ADD_NORM, WIDEST
from reformer_ops.core.errors import OpError
from reformer_ops.core.onnx_writer import as_attributes
from reformer_ops.core.spec import DOMAIN
from reformer_ops.onnx_bodies import function

from .onnx_models import OPSET, make_session

Array = NDArray[Any]
EPSILON = 1e-12
BOUNDS = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
"""Largest error of a norm, relative to its largest magnitude: two roundings of the type."""


@dataclass(frozen=True)
class Example:
    batch: int
    length: int
    hidden: int
    offset: float = 0.0

    def inputs(self, dtype: str) -> list[Array]:
        """The inputs in fp32, with values that are exact in the type."""
        rng = np.random.default_rng((self.batch, self.length, self.hidden))
        streams = (self.batch, self.length, self.hidden)
        shapes = [streams, streams, (self.hidden,), (self.hidden,)]
        arrays = [rng.standard_normal(shape) for shape in shapes]
        arrays[0] += self.offset
        kind = getattr(torch, dtype)
        return [torch.from_numpy(a).to(kind).float().numpy() for a in arrays]


EXAMPLES = (
    Example(1, 1, 3),
    Example(2, 5, 12),
    Example(3, 33, 64),
    Example(1, 70, 256),
    Example(2, 3, 1024),
    Example(1, 2, 1100),
    Example(1, 20, 48, offset=1000.0),  # a mean so large that sums of squares lose precision
)


def expected(example: Example, dtype: str) -> tuple[Array, Array]:
    """The results of the reference for the sum, rounded to the type."""
    residual, update, weight, bias = example.inputs(dtype)
    kind = getattr(torch, dtype)
    total = (torch.from_numpy(residual).to(kind) + torch.from_numpy(update).to(kind)).float()
    zero = np.zeros_like(update)
    return add_norm(total.numpy(), zero, weight, bias, epsilon=EPSILON)


def check(found: tuple[Array, Array], example: Example, dtype: str) -> None:
    total, normed = expected(example, dtype)
    np.testing.assert_array_equal(found[0].astype(np.float64), total)
    scale = max(1.0, float(np.abs(normed).max()))
    # fp32 represents the mean of numbers around 1000 no more precisely than this.
    slack = 1e-4 if example.offset else 0.0
    assert np.abs(found[1] - normed).max() <= (BOUNDS[dtype] + slack) * scale


def test_the_reference_is_the_layer_norm_of_torch() -> None:
    example = Example(2, 7, 24)
    arrays = [torch.from_numpy(a).double() for a in example.inputs("float32")]
    residual, update, weight, bias = arrays
    wanted = torch.nn.functional.layer_norm(residual + update, (24,), weight, bias, EPSILON)
    total, normed = add_norm(*(a.numpy() for a in arrays), epsilon=EPSILON)
    np.testing.assert_array_equal(total, (residual + update).numpy())
    np.testing.assert_allclose(normed, wanted.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_body_in_onnxruntime(example: Example, dtype: str) -> None:
    kind = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16}[dtype]

    def values(operands: Any) -> list[ir.Value]:
        return [
            ir.Value(name=o.name, type=ir.TensorType(kind), shape=ir.Shape(o.axes))
            for o in operands
        ]

    inputs, outputs = values(ADD_NORM.inputs), values(ADD_NORM.outputs)
    attributes = as_attributes({"epsilon": EPSILON})
    node = ir.Node(DOMAIN, ADD_NORM.name, inputs, attributes, outputs=outputs)
    graph = ir.Graph(inputs, outputs, nodes=[node], opset_imports={"": OPSET, DOMAIN: 1}, name="g")
    body = function(ADD_NORM, kind, OPSET, epsilon=EPSILON)
    model = ir.to_proto(ir.Model(graph, ir_version=10, functions=[body]))
    arrays = [a.astype(dtype) for a in example.inputs(dtype)]
    feeds = {o.name: a for o, a in zip(ADD_NORM.inputs, arrays, strict=True)}
    total, normed = make_session(model).run(None, feeds)
    check((total, normed), example, dtype)


def _emulated() -> list[Any]:
    """Every example on every target; those that are not slow: all on sm_80, the first on others."""
    cases = [
        (example, dtype, target)
        for example in EXAMPLES
        for dtype in ("float32", "float16", "bfloat16")
        for target in (75, 80, 90, 120)
        if (dtype, target) != ("bfloat16", 75)  # sm_75 has no bf16 arithmetic
    ]
    return [
        pytest.param(*case, marks=() if 80 in case or EXAMPLES[0] in case else pytest.mark.slow)
        for case in cases
    ]


@pytest.mark.parametrize(("example", "dtype", "target"), _emulated())
def test_emulated_ptx(example: Example, dtype: str, target: int) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")
    from reformer_ops.triton_programs import make_program

    from ..tools.ptx.emulated import as_float32, run_launch, stored

    program = make_program(
        ADD_NORM,
        dtype=dtype,
        attributes={"epsilon": EPSILON},
        sizes={"hidden": example.hidden},
        target=target,
    )
    (step,) = program.steps
    shape = (example.batch, example.length, example.hidden)
    arrays = [stored(a, dtype) for a in example.inputs(dtype)]
    found = run_launch(
        step.launch,
        target,
        {o.name: a for o, a in zip(ADD_NORM.inputs, arrays, strict=True)},
        {"total": shape, "normed": shape},
        batch=example.batch,
        length=example.length,
    )
    check((as_float32(found["total"]), as_float32(found["normed"])), example, dtype)
    assert step.arguments()[-2:] == ["sum", "normed"]


@pytest.mark.parametrize("hidden", [256, 1024, 4096, WIDEST])
def test_rows_fit_into_registers(hidden: int) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")
    from reformer_ops.add_norm.triton_kernel import add_norm as launch
    from reformer_ops.triton.compile import compile_launch

    for dtype, target in (("float32", 80), ("float16", 90)):
        compiled = compile_launch(launch(dtype=dtype, hidden=hidden, epsilon=EPSILON), target)
        assert compiled.spill_bytes == 0


def test_rows_that_are_too_wide() -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")
    from reformer_ops.add_norm.triton_kernel import add_norm as launch

    with pytest.raises(OpError, match=f"rows of up to {WIDEST} on a GPU; got {WIDEST + 1}"):
        launch(dtype="float32", hidden=WIDEST + 1, epsilon=EPSILON)
