"""Tests of the graph for TensorRT: the data types of its computations, and its results."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import onnxruntime
import pytest

from reformer_export.errors import ExportError
from reformer_export.exporters.tensorrt.graph import IR_TYPES, lower
from reformer_export.runtimes.onnx_bf16 import emulate_bf16

from ..tools.model_fixtures import Fixtures, feeds, worst_error

TASK = "fill-mask"
HALVES = ("fp16", "bf16")
_FP32_ONLY = {"Exp", "Log", "LayerNormalization", "ReduceMax", "ReduceMean", "ReduceSum", "Sqrt"}


def lowered(fixtures: Fixtures, dtype: str, *, task: str = TASK, **how: Any) -> Any:
    model = ir.load(fixtures.artifact(task).format_path("onnx"))
    lower(model, dtype, **how)
    return model


def typed(model: ir.Model) -> ir.Model:
    common_passes.ShapeInferencePass(data_prop=False)(model)
    return model


def run(model: ir.Model, inputs: dict[str, Any]) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.mark.parametrize("dtype", HALVES)
def test_what_is_computed_in_which_type(fixtures: Fixtures, dtype: str) -> None:
    graph = typed(lowered(fixtures, dtype)).graph
    found: dict[str, set[ir.DataType | None]] = {}
    for node in graph:
        kind = node.op_type
        if kind == "MatMul" and "/LshBucket/" in str(node.name):
            kind = "hashing"
        value = node.inputs[0] if node.inputs else None
        found.setdefault(kind, set()).add(None if value is None else value.dtype)
    assert found["MatMul"] == found["Gemm"] == {IR_TYPES[dtype]}
    assert found["hashing"] == {ir.DataType.FLOAT}
    seen = _FP32_ONLY & found.keys()
    assert {"Exp", "Log", "LayerNormalization", "ReduceSum"} <= seen
    for kind in seen:
        assert found[kind] <= {ir.DataType.FLOAT}, kind
    weights = {value.dtype for name, value in graph.initializers.items() if "dense" in name}
    assert weights == {IR_TYPES[dtype]}


@pytest.mark.parametrize("dtype", ["fp32", *HALVES])
def test_it_is_called_as_before(fixtures: Fixtures, dtype: str) -> None:
    before, after = ir.load(fixtures.artifact(TASK).format_path("onnx")), lowered(fixtures, dtype)
    for old, new in zip(
        [*before.graph.inputs, *before.graph.outputs],
        [*after.graph.inputs, *after.graph.outputs],
        strict=True,
    ):
        assert (old.name, old.dtype, old.shape) == (new.name, new.dtype, new.shape)
    assert set(after.opset_imports) == {""}
    assert not after.functions


def test_fp32_is_the_artifact_itself(fixtures: Fixtures) -> None:
    inputs = feeds(29, 3, vocab_size=258)
    expected = run(ir.load(fixtures.artifact(TASK).format_path("onnx")), inputs)
    assert worst_error(run(lowered(fixtures, "fp32"), inputs), expected) == 0.0


def test_without_fp32_products(fixtures: Fixtures) -> None:
    """On SM75, a convolution computes the hashes. The buckets and other results are the same."""
    plain = lowered(fixtures, "fp16")
    model = lowered(fixtures, "fp16", fp32_products=False)
    inputs = feeds(29, 3, vocab_size=258)
    assert worst_error(run(model, inputs), run(plain, inputs)) < 1e-3
    products = {
        value.dtype
        for node in typed(model).graph
        if node.op_type in ("MatMul", "Gemm")
        for value in node.inputs
        if value is not None
    }
    assert products == {ir.DataType.FLOAT16}
    assert [node.op_type for node in model.graph if "rotated" in str(node.name)].count("Conv") >= 2


@pytest.mark.parametrize("dtype", HALVES)
def test_a_weight_out_of_range(fixtures: Fixtures, dtype: str) -> None:
    model = ir.load(fixtures.artifact(TASK).format_path("onnx"))
    name = next(name for name in model.graph.initializers if name.endswith("dense.weight"))
    value = model.graph.initializers[name]
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    array[0, 0] = 1e6
    value.const_value = ir.tensor(array, name=name)
    if dtype == "bf16":
        lower(model, dtype)
        return
    with pytest.raises(ExportError, match=r"goes up to 1e\+06, beyond the range of float16"):
        lower(model, dtype)


def tiny_bf16(op_type: str, **attributes: Any) -> ir.Model:
    """A graph with one bf16 node: fp32 input x -> cast to bf16 -> node -> cast to fp32."""
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([4]))
    down = ir.node("Cast", [value], {"to": ir.DataType.BFLOAT16})
    node = ir.node(op_type, [down.outputs[0]] * attributes.pop("operands", 1), attributes)
    up = ir.node("Cast", [node.outputs[0]], {"to": ir.DataType.FLOAT})
    up.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [value], up.outputs, nodes=[down, node, up], opset_imports={"": 18}, name="tiny"
    )
    for index, one in enumerate([down, node, up]):
        one.outputs[0].name = f"value_{index}"
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(("op_type", "operands"), [("Identity", 1), ("Add", 2), ("Mul", 2)])
def test_emulated_bf16_rounds_each_result(op_type: str, operands: int) -> None:
    import ml_dtypes

    x = np.array([1 + 2**-7, 1 + 2**-9, np.pi, -3.3e-39], np.float32)
    (found,) = run(emulate_bf16(tiny_bf16(op_type, operands=operands)), {"x": x}).values()
    rounded = x.astype(ml_dtypes.bfloat16)
    exact = {"Identity": rounded, "Add": rounded + rounded, "Mul": rounded * rounded}[op_type]
    assert exact.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found, exact.astype(np.float32))


def test_emulated_bf16_leaves_no_bf16_to_compute(fixtures: Fixtures) -> None:
    model = emulate_bf16(lowered(fixtures, "bf16"))
    for node in typed(model).graph:
        kinds = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None}
        assert ir.DataType.BFLOAT16 not in kinds or node.op_type == "Cast", node.name
    inputs = feeds(29, 3, vocab_size=258)
    found = run(model, inputs)["logits"]
    assert not (found.view(np.uint32) & 0xFFFF).any()  # the head's products are rounded too
    expected = run(lowered(fixtures, "fp32"), inputs)
    assert 1e-4 < worst_error({"logits": found}, expected, share=0.5) < 0.1
