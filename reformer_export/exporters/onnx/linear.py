"""Writes the nodes of the operators in `reformer_ops.registry.LINEAR` as standard operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray

from reformer_export.errors import ExportError
from reformer_export.exporters.onnx import passes
from reformer_ops.core.spec import DOMAIN
from reformer_ops.core.weight_panels import matrix
from reformer_ops.onnx_bodies import write_body
from reformer_ops.registry import LINEAR

_PANELS = "_panels"


def write_linear_out(model: ir.Model) -> None:
    """Replace the nodes of fused linear layers, for runtimes that need standard operators."""
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
