"""The exporter refuses graphs that some runtime would reject late, or run with other numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from reformer_export.errors import ExportError
from reformer_export.exporters.onnx.lint import MAX_TOPK, lint

from ..tools.model_fixtures import Fixtures

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def node(op_type: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> NodeProto:
    return helper.make_node(
        op_type, inputs.split(), outputs.split(), name=f"the {op_type}", **attributes
    )


def refused(
    nodes: NodeProto | list[NodeProto],
    said: str,
    *,
    kind: int = FLOAT,
    constants: dict[str, np.ndarray] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> None:
    """A graph of `nodes`, with input `x` of type `kind`, is refused with one line that matches."""
    initializers = [numpy_helper.from_array(a, name) for name, a in (constants or {}).items()]
    graph = helper.make_graph(
        nodes if isinstance(nodes, list) else [nodes],
        "g",
        [helper.make_tensor_value_info("x", kind, [2, 3])],
        [helper.make_tensor_value_info("y", kind, None)],
        initializers,
    )
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("reformer", 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=functions or [])
    with pytest.raises(ExportError, match=said) as caught:
        lint(ir.from_proto(model))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ops", ["auto", "portable"])
def test_our_own_graphs_pass(fixtures: Fixtures, ops: str) -> None:
    lint(ir.load(fixtures.artifact(ops=ops).format_path("onnx")))


@pytest.mark.parametrize(
    "op_type",
    [
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"),
        *("RandomUniform", "RandomUniformLike"),
    ],
)
def test_random_numbers(op_type: str) -> None:
    refused(node(op_type), rf"has {op_type} \(the {op_type}\): random numbers differ")


@pytest.mark.parametrize(
    "op_type",
    [
        *("Attention", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
        *("Compress", "ConvInteger", "EyeLike", "MatMulInteger", "NonZero", "Unique"),
    ],
)
def test_operators_that_tensorrt_does_not_take(op_type: str) -> None:
    refused(node(op_type), f"has {op_type} .*: TensorRT does not take it")


@pytest.mark.parametrize("op_type", ["ScatterElements", "ScatterND"])
@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_scatters_that_reduce(op_type: str, reduction: str) -> None:
    scatter = node(op_type, "x i u", reduction=reduction)
    refused(scatter, f"has {op_type} .*: TensorRT takes no reduction")


def test_a_sort_that_is_too_long() -> None:
    said = f"has TopK .*: TensorRT takes a constant k of at most {MAX_TOPK}"
    refused(node("TopK", "x k", "y i"), said, constants={"k": np.array([MAX_TOPK + 1])})
    refused(node("TopK", "x k", "y i"), said)  # k is computed, so it can have any value
    constant = node("Constant", "", "k", value=numpy_helper.from_array(np.array([MAX_TOPK + 1])))
    refused([constant, node("TopK", "x k", "y i")], said)


def test_a_sort_that_is_short_enough() -> None:
    said = "has NonZero"  # and no error before this one
    for k in (1, MAX_TOPK):
        value = numpy_helper.from_array(np.array([k]))
        sort = [node("Constant", "", "k", value=value), node("TopK", "x k", "z i")]
        refused([*sort, node("NonZero", "z")], said)


def test_further_outputs_of_a_norm() -> None:
    norm = node("LayerNormalization", "x s", "y mean")
    refused(norm, "has LayerNormalization .*: TensorRT takes one output")


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin", "CumSum"])
def test_what_takes_no_booleans(op_type: str) -> None:
    refused(node(op_type), f"has {op_type} .*: .* not take it on booleans", kind=BOOL)


@pytest.mark.parametrize("op_type", ["MatMul", "Gemm"])
def test_products_of_integers(op_type: str) -> None:
    refused(node(op_type, "x x"), f"has {op_type} .*: .* no matrices of integers", kind=INT64)


def test_too_many_axes() -> None:
    graph = helper.make_graph(
        [node("Reshape", "x s"), node("Identity", "y", "z")],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [2])],
        [helper.make_tensor_value_info("z", FLOAT, [2])],
        [numpy_helper.from_array(np.array([2] + [1] * 8), "s")],
        value_info=[helper.make_tensor_value_info("y", FLOAT, [2] + [1] * 8)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(ExportError, match=r"has Reshape .*: .* at most 8 axes"):
        lint(ir.from_proto(model))


REFUSED_TYPES = ["DOUBLE", "INT16", "UINT8", "UINT32", "UINT64"]


@pytest.mark.parametrize("name", REFUSED_TYPES)
def test_types_of_values(name: str) -> None:
    kind = TensorProto.DataType.Value(name)
    refused(node("Identity"), r"has Identity .*: TensorRT (has no|turns doubles)", kind=kind)
    refused(node("Cast", to=kind), "has Cast .*: TensorRT (has no|turns doubles)")


@pytest.mark.parametrize("name", REFUSED_TYPES)
def test_types_of_constants(name: str) -> None:
    kind = TensorProto.DataType.Value(name)
    array = np.ones(2, helper.tensor_dtype_to_np_dtype(kind))
    constant = node("Constant", "", "c", value=numpy_helper.from_array(array))
    refused([constant, node("Identity")], "has Constant .*: TensorRT")
    refused(node("Add", "x w"), "has Add .*: TensorRT", constants={"w": array})


def test_operators_that_are_nobodys() -> None:
    strange = helper.make_node("FusedMatMul", ["x", "x"], ["y"], name="n", domain="com.microsoft")
    refused(strange, "operators of the domain com.microsoft are not standard")


def test_an_operator_of_ours_without_its_body() -> None:
    ours = helper.make_node("LshBucket", ["x"], ["y"], name="n", domain="reformer")
    refused(ours, "has no function body, so plain runtimes cannot run it")


def test_nodes_in_subgraphs_are_looked_at() -> None:
    result = helper.make_tensor_value_info("z", FLOAT, None)
    branch = helper.make_graph([node("RandomNormal", "", "z", shape=[1])], "b", [], [result])
    choice = node("If", "x", then_branch=branch, else_branch=branch)
    outer = helper.make_graph([choice], "o", [], [helper.make_tensor_value_info("y", FLOAT, None)])
    nested = node("If", "x", then_branch=outer, else_branch=outer)
    refused(nested, "has RandomNormal", kind=BOOL)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (node("NonZero", "a", "b"), "has NonZero"),
        (node("RandomUniformLike", "a", "b"), "has RandomUniformLike"),
        (node("Cast", "a", "b", to=TensorProto.DOUBLE), "has Cast .*doubles"),
        (node("ScatterND", "a a a", "b", reduction="add"), "has ScatterND"),
    ],
)
def test_nodes_in_bodies_are_looked_at(inside: NodeProto, said: str) -> None:
    body = helper.make_function(
        "reformer", "LshBucket", ["a"], ["b"], [inside], [helper.make_opsetid("", 23)]
    )
    ours = helper.make_node("LshBucket", ["x"], ["y"], name="n", domain="reformer")
    refused(ours, said, functions=[body])
