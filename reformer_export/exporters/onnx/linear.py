"""Fuses linear layers and adjacent operations into single nodes: the operators of
`reformer_ops.registry.LINEAR`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray

from reformer_export.errors import ExportError
from reformer_export.exporters.onnx import passes
from reformer_ops.core.onnx_writer import as_attributes
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.core.weight_panels import PANEL, matrix, panels
from reformer_ops.feed_forward_add.spec import FEED_FORWARD_ADD
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD
from reformer_ops.int8_linear.spec import INT8_LINEAR
from reformer_ops.layer_norm_linear.spec import LAYER_NORM_LINEAR
from reformer_ops.linear_add.spec import LINEAR_ADD
from reformer_ops.onnx_bodies import write_body
from reformer_ops.registry import LINEAR

ACTIVATIONS = {
    "linear": "linear",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""The activation of `FeedForwardAdd` by a checkpoint's `hidden_act`. With any other `hidden_act`,
the feed-forward keeps its standard operators."""

_PANELS = "_panels"
_LAYER = r"(?P<layer>.*layers\.\d+)"
_ATTENTION_NORM = re.compile(rf"{_LAYER}\.attention\.layer_norm/LayerNormalization")
_ATTENTION_OUTPUT = re.compile(rf"{_LAYER}\.attention\.output\.dense/MatMul")
_FEED_FORWARD_NORM = re.compile(rf"{_LAYER}\.feed_forward\.layer_norm/LayerNormalization")


def fuse_linear(model: ir.Model, activation: str) -> None:
    """Replace the linear layers of each layer, and adjacent operations, by nodes of ours.

    Not replaced are linear layers with a weight whose sizes are not multiples of 16, and a
    feed-forward whose activation is not in `ACTIVATIONS`.

    Args:
        model: a graph whose nodes are named after their modules.
        activation: the checkpoint's `hidden_act`.
    """
    nodes = {node.name: node for node in model.graph}
    for node in list(model.graph):
        name = node.name or ""
        if _ATTENTION_NORM.fullmatch(name):
            _fuse_projections(model.graph, node)
        elif _ATTENTION_OUTPUT.fullmatch(name):
            _fuse_output(model.graph, node)
        elif (found := _FEED_FORWARD_NORM.fullmatch(name)) and activation in ACTIVATIONS:
            scope = f"{found['layer']}.feed_forward"
            _fuse_feed_forward(model.graph, node, scope, nodes, ACTIVATIONS[activation])
    common_passes.RemoveUnusedNodesPass()(model)


def _fuse_projections(graph: ir.Graph, norm: ir.Node) -> None:
    """Let each projection compute the norm: this costs little, and the norm is never stored."""
    uses = norm.outputs[0].uses()
    products = [product for use in uses if (product := _product(use.node)) and not product.bias]
    if len(products) < len(uses):
        return
    attributes = {"epsilon": norm.attributes["epsilon"].as_float()}
    for product in products:
        operands = [*norm.inputs, _weight(graph, product)]
        _replace(graph, product.node, LAYER_NORM_LINEAR, operands, attributes, product.module)


def _fuse_output(graph: ir.Graph, matmul: ir.Node) -> None:
    product, uses = _product(matmul), list(matmul.outputs[0].uses())
    if product is None or product.bias is not None or len(uses) != 1:
        return
    add = uses[0].node
    if add.op_type != "Add":
        return
    (residual,) = (value for value in add.inputs if value is not matmul.outputs[0])
    operands = [residual, matmul.inputs[0], _weight(graph, product)]
    _replace(graph, add, LINEAR_ADD, operands, {}, product.module)


def _fuse_feed_forward(
    graph: ir.Graph, norm: ir.Node, scope: str, nodes: Mapping[str | None, ir.Node], activation: str
) -> None:
    add = _only_user(norm, scope)
    if add is None or add.op_type != "Add":
        return
    modules = (f"{scope}.dense.dense", f"{scope}.output.dense")
    up8, down8 = (nodes.get(f"{module}/{INT8_LINEAR.name}") for module in modules)
    up, down = (_product(nodes.get(f"{module}/Gemm")) for module in modules)
    if up8 is not None and down8 is not None:
        op, last = INT8_FEED_FORWARD_ADD, down8
        weights = [*up8.inputs[1:], *down8.inputs[1:]]
    elif up is not None and down is not None:
        op, last = FEED_FORWARD_ADD, down.node
        weights = [value for each in (up, down) for value in _weight_and_bias(graph, each)]
    else:
        return
    (residual,) = (value for value in add.inputs if not _comes_from(value, last))
    epsilon = norm.attributes["epsilon"].as_float()
    attributes = {"epsilon": epsilon, "activation": activation}
    _replace(graph, add, op, [residual, *norm.inputs, *weights], attributes, scope)


def write_linear_out(model: ir.Model) -> None:
    """The reverse of `fuse_linear`, for runtimes that need standard operators."""
    names = [op.name for op in LINEAR]
    nodes = [node for node in model.graph if node.domain == DOMAIN and node.op_type in names]
    if not nodes:
        return
    weight = nodes[0].inputs[-1]
    if weight is None or weight.dtype is None:
        raise ExportError(f"the weights of {nodes[0].name} have no type: export the model again")
    passes.inline(model, weight.dtype, LINEAR, write_body)
    for node in list(model.graph):
        if node.op_type == "Flatten" and not node.domain:
            _fold_panels(model.graph, node)
    # Constants become weights, so that a later change of the model's type also converts them.
    common_passes.LiftConstantsToInitializersPass(size_limit=0)(model)
    common_passes.RemoveUnusedNodesPass()(model)


def _fold_panels(graph: ir.Graph, flatten: ir.Node) -> None:
    """Replace a weight's panels, and the nodes that make a matrix of them, by the matrix."""
    transpose = flatten.inputs[0].producer() if flatten.inputs[0] is not None else None
    if transpose is None or transpose.op_type != "Transpose":
        return
    stored = transpose.inputs[0]
    if stored is None or stored.const_value is None or not stored.is_initializer():
        return
    array = matrix(stored.const_value.numpy())
    name = str(stored.name).removesuffix(_PANELS)
    weight = _initializer(graph, name, array, stored.const_value.dtype)
    ir.convenience.replace_all_uses_with(flatten.outputs[0], weight)


@dataclass(frozen=True)
class _Product:
    """`rows @ weight + bias`; if `transposed`, `rows @ weight.T + bias`."""

    node: ir.Node
    weight: ir.TensorProtocol
    transposed: bool = False
    bias: ir.Value | None = None  # torch's exporter leaves out a bias of zeros

    @property
    def module(self) -> str:
        """The path of the linear layer."""
        return (self.node.name or "").rpartition("/")[0]

    @property
    def matrix(self) -> NDArray[Any]:
        """The weight `[depth, columns]`."""
        weight = self.weight.numpy()
        return weight.T if self.transposed else weight


def _product(node: ir.Node | None) -> _Product | None:
    """The product of a node; None unless it is a plain Gemm or MatMul whose weight fits panels."""
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        return None
    _, weight, *rest = node.inputs
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    if any(node.attributes[n].value != v for n, v in plain.items() if n in node.attributes):
        return None
    if weight is None or weight.const_value is None or len(weight.const_value.shape) != 2:
        return None
    if any(size % PANEL for size in weight.const_value.shape.numpy()):
        return None
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    return _Product(node, weight.const_value, transposed, *rest)


def _only_user(norm: ir.Node, scope: str) -> ir.Node | None:
    """The only node outside a module that uses its results; None unless there is exactly one."""
    inside, users = [norm], list[ir.Node]()
    for node in inside:
        for user in (use.node for output in node.outputs for use in output.uses()):
            into = inside if (user.name or "").startswith(scope) else users
            if user not in into:
                into.append(user)
    return users[0] if len(users) == 1 else None


def _replace(
    graph: ir.Graph,
    node: ir.Node,
    op: OpSpec,
    operands: Sequence[ir.Value | None],
    attributes: dict[str, Any],
    scope: str,
) -> None:
    """Replace `node`, the last node of a fused group, by a node of ours."""
    old = node.outputs[0]
    output = ir.Value(name=old.name, shape=old.shape, type=old.type)
    old.name = f"{old.name}/before"
    fused = ir.Node(
        DOMAIN,
        op.name,
        operands,
        as_attributes(attributes),
        outputs=[output],
        name=f"{scope}/{op.name}",
        version=None,
    )
    graph.insert_before(node, fused)
    ir.convenience.replace_all_uses_with(old, output, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _comes_from(value: ir.Value | None, node: ir.Node) -> bool:
    """True if a value is the output of `node`, reshaped or not."""
    producer = None if value is None else value.producer()
    while producer is not None and producer.op_type == "Reshape":
        value = producer.inputs[0]
        producer = None if value is None else value.producer()
    return producer is node


def _weight(graph: ir.Graph, product: _Product) -> ir.Value:
    name = f"{product.module}.weight{_PANELS}"
    return _initializer(graph, name, panels(product.matrix), product.weight.dtype)


def _weight_and_bias(graph: ir.Graph, product: _Product) -> tuple[ir.Value, ir.Value]:
    return _weight(graph, product), _bias(graph, product)


def _bias(graph: ir.Graph, product: _Product) -> ir.Value:
    if product.bias is not None:
        return product.bias
    columns = product.matrix.shape[1]
    zeros = np.zeros(columns, product.matrix.dtype)
    return _initializer(graph, f"{product.module}.bias", zeros, product.weight.dtype)


def _initializer(graph: ir.Graph, name: str, array: NDArray[Any], dtype: ir.DataType) -> ir.Value:
    array = np.ascontiguousarray(array)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(dtype),
        const_value=ir.tensor(array, dtype=dtype),
    )
    graph.register_initializer(value)
    return value
