"""Puts one node in place of half a layer: the operators of `reformer_ops.registry.HALVES`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray

from reformer_export.errors import ExportError
from reformer_export.exporters.onnx import passes
from reformer_ops.core.onnx_writer import as_attributes
from reformer_ops.core.spec import DOMAIN
from reformer_ops.feed_forward_add.reference import matrix
from reformer_ops.feed_forward_add.spec import FEED_FORWARD_ADD, PANEL
from reformer_ops.onnx_bodies import write_body
from reformer_ops.registry import HALVES

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
"""The operators' activation by a checkpoint's `hidden_act`. A model with another one keeps its
standard operators."""

_PANELS = "_panels"
_NORM = re.compile(r"(.*layers\.\d+\.feed_forward)\.layer_norm/LayerNormalization")


def fuse_halves(model: ir.Model, activation: str) -> None:
    """Replace the feed-forward half of each layer by a node of `FeedForwardAdd`.

    A layer whose sizes are no multiples of 16 keeps its standard operators, as does a model whose
    activation is not in `ACTIVATIONS`.

    Args:
        model: a graph whose nodes are named by their modules.
        activation: the checkpoint's `hidden_act`.
    """
    if activation not in ACTIVATIONS:
        return
    nodes = {node.name: node for node in model.graph}
    for norm in list(model.graph):
        found = _NORM.fullmatch(norm.name or "")
        if found is None:
            continue
        up, down = (
            _product(nodes.get(f"{module}/Gemm"), module)
            for module in (f"{found[1]}.dense.dense", f"{found[1]}.output.dense")
        )
        add = _only_user(norm, found[1])
        if up is None or down is None or add is None or add.op_type != "Add":
            continue
        _replace(model.graph, norm, up, down, add, ACTIVATIONS[activation])
    common_passes.RemoveUnusedNodesPass()(model)


def write_halves_out(model: ir.Model) -> None:
    """The reverse of `fuse_halves`, for runtimes that shall see standard operators."""
    names = [op.name for op in HALVES]
    nodes = [node for node in model.graph if node.domain == DOMAIN and node.op_type in names]
    if not nodes:
        return
    weight = nodes[0].inputs[-1]
    if weight is None or weight.dtype is None:
        raise ExportError(f"the weights of {nodes[0].name} have no type: export the model again")
    passes.inline(model, weight.dtype, HALVES, write_body)
    for node in list(model.graph):
        if node.op_type == "Flatten" and not node.domain:
            _fold_panels(model.graph, node)
    common_passes.RemoveUnusedNodesPass()(model)


def _fold_panels(graph: ir.Graph, flatten: ir.Node) -> None:
    """Replace a weight's panels and what makes a matrix of them by the matrix."""
    transpose = flatten.inputs[0].producer() if flatten.inputs[0] is not None else None
    if transpose is None or transpose.op_type != "Transpose":
        return
    panels = transpose.inputs[0]
    if panels is None or panels.const_value is None or not panels.is_initializer():
        return
    array = matrix(panels.const_value.numpy())
    name = str(panels.name).removesuffix(_PANELS)
    weight = _initializer(graph, name, array, panels.const_value.dtype)
    ir.convenience.replace_all_uses_with(flatten.outputs[0], weight)


@dataclass(frozen=True)
class _Product:
    """`rows @ weight + bias`, or with the weight transposed."""

    node: ir.Node
    module: str
    weight: ir.TensorProtocol
    transposed: bool
    bias: ir.Value | None = None  # torch's exporter leaves out zeros

    @property
    def matrix(self) -> NDArray[Any]:
        """The weight `[depth, columns]`."""
        weight = self.weight.numpy()
        return weight.T if self.transposed else weight


def _product(gemm: ir.Node | None, module: str) -> _Product | None:
    """The product of a node; None if it is another one, or its weight does not fit into panels."""
    if gemm is None:
        return None
    _, weight, *rest = gemm.inputs
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    if any(gemm.attributes[n].value != v for n, v in plain.items() if n in gemm.attributes):
        return None
    if weight is None or weight.const_value is None:
        return None
    if any(size % PANEL for size in weight.const_value.shape.numpy()):
        return None
    transposed = "transB" in gemm.attributes and gemm.attributes["transB"].as_int() == 1
    return _Product(gemm, module, weight.const_value, transposed, *rest)


def _only_user(norm: ir.Node, scope: str) -> ir.Node | None:
    """The one node outside of a module that uses what is computed in it; None if there are more."""
    inside, users = [norm], list[ir.Node]()
    for node in inside:
        for user in (use.node for output in node.outputs for use in output.uses()):
            into = inside if (user.name or "").startswith(f"{scope}") else users
            if user not in into:
                into.append(user)
    return users[0] if len(users) == 1 else None


def _replace(
    graph: ir.Graph, norm: ir.Node, up: _Product, down: _Product, add: ir.Node, activation: str
) -> None:
    (residual,) = (value for value in add.inputs if not _comes_from(value, down.node))
    old = add.outputs[0]
    output = ir.Value(name=old.name, shape=old.shape, type=old.type)
    old.name = f"{old.name}/before"
    epsilon = norm.attributes["epsilon"].as_float()
    fused = ir.Node(
        DOMAIN,
        FEED_FORWARD_ADD.name,
        [residual, *norm.inputs, *_operands(graph, up), *_operands(graph, down)],
        as_attributes({"epsilon": epsilon, "activation": activation}),
        outputs=[output],
        name=f"{(norm.name or '').split('.layer_norm/')[0]}/{FEED_FORWARD_ADD.name}",
        version=None,
    )
    graph.insert_before(add, fused)
    ir.convenience.replace_all_uses_with(old, output, replace_graph_outputs=True)
    graph.remove(add, safe=True)


def _comes_from(value: ir.Value | None, node: ir.Node) -> bool:
    """True if a value is the output of `node`, in another shape or not."""
    producer = None if value is None else value.producer()
    while producer is not None and producer.op_type == "Reshape":
        value = producer.inputs[0]
        producer = None if value is None else value.producer()
    return producer is node


def _operands(graph: ir.Graph, product: _Product) -> tuple[ir.Value, ir.Value]:
    """The weight as panels, `[columns / 16, depth, 16]`, and the bias, `[columns]`."""
    depth, columns = product.matrix.shape
    panels = product.matrix.reshape(depth, columns // PANEL, PANEL).transpose(1, 0, 2)
    weight = _initializer(graph, f"{product.module}.weight{_PANELS}", panels, product.weight.dtype)
    if product.bias is not None:
        return weight, product.bias
    zeros = np.zeros(columns, panels.dtype)
    return weight, _initializer(graph, f"{product.module}.bias", zeros, product.weight.dtype)


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
