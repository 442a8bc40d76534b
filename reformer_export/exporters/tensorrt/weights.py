"""Writes weights of 8 and 4 bits as TensorRT takes them: integers before a DequantizeLinear.

With 4 bits, an integer times its step has 8 bits, so these become weights of 8 bits without loss.
Inputs of the layers are not rounded, so the graph is nearer to fp32 than the CPU kernels are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from reformer_export.errors import ExportError
from reformer_export.exporters.onnx.passes import inline
from reformer_ops.core import int4, int8
from reformer_ops.core.onnx_writer import OnnxWriter
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.feed_forward_add.onnx_body import activated
from reformer_ops.int4_feed_forward_add.spec import INT4_FEED_FORWARD_ADD
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD
from reformer_ops.registry import QUANTISED

_FEED_FORWARD = (INT8_FEED_FORWARD_ADD, INT4_FEED_FORWARD_ADD)

_OPSET = 19  # the first in which DequantizeLinear returns fp16 and bf16


def write_quantised_out(model: ir.Model) -> None:
    """Replace the operators with weights of 8 or 4 bits by DequantizeLinear and MatMul.

    Rows of embeddings are taken after DequantizeLinear, too.
    """
    for node in list(model.graph):
        if node.op_type == "GatherND" and not node.domain:
            _write_embedding(model.graph, node)
    ops = (*QUANTISED, *_FEED_FORWARD)
    names = [op.name for op in ops]
    nodes = [node for node in model.graph if node.domain == DOMAIN and node.op_type in names]
    if not nodes:
        return
    bias = nodes[0].inputs[-1]
    if bias is None or bias.dtype is None:
        raise ExportError(f"the bias of {nodes[0].name} has no type: export the model again")
    inline(model, bias.dtype, ops, _write)
    model.opset_imports[""] = max(model.opset_imports[""], _OPSET)
    # Constants become weights, so that a later change of the model's type also converts scales.
    common_passes.LiftConstantsToInitializersPass(size_limit=0)(model)
    common_passes.RemoveUnusedNodesPass()(model)


def _write_embedding(graph: ir.Graph, gather: ir.Node) -> None:
    """Scale a table `[rows, width]` of integers before its rows are taken, and not after it."""
    table = gather.inputs[0]
    if table is None or table.dtype != ir.DataType.INT8 or not table.is_initializer():
        return
    (widened,) = gather.outputs[0].consumers()
    (scaled,) = widened.outputs[0].consumers()
    scale = _other(scaled, widened).inputs[0]
    if scale is None:
        raise ExportError(f"{gather.name} has no scales: this is a fault of the exporter")
    scales = _array(scale).ravel()
    flat = ir.Value(
        name=f"{table.name}/scale",
        shape=ir.Shape(scales.shape),
        type=scale.type,
        const_value=ir.tensor(scales),
    )
    graph.register_initializer(flat)
    matrix = ir.Value(name=f"{table.name}/matrix", shape=table.shape, type=scale.type)
    axis = [ir.AttrInt64("axis", 0)]
    dequantise = ir.Node(
        "", "DequantizeLinear", [table, flat], axis, outputs=[matrix], name=matrix.name
    )
    graph.insert_before(gather, dequantise)
    gather.replace_input_with(0, matrix)
    gather.outputs[0].type = scale.type
    ir.convenience.replace_all_uses_with(scaled.outputs[0], gather.outputs[0])


def _other(product: ir.Node, operand: ir.Node) -> ir.Node:
    """The node that computes the other operand of a product."""
    for value in product.inputs:
        node = None if value is None else value.producer()
        if node is not None and node is not operand:
            return node
    raise ExportError(f"{product.name} has no scales: this is a fault of the exporter")


def _write(op: OpSpec, writer: OnnxWriter, *inputs: ir.Value, **attributes: Any) -> tuple[ir.Value]:
    write = _feed_forward_add if op in _FEED_FORWARD else _linear
    return (write(writer, *inputs, **attributes),)


def _linear(w: OnnxWriter, input: ir.Value, *operands: ir.Value) -> ir.Value:
    """The linear layer. `operands`: the weight, its steps if it has 4 bits, scales, bias."""
    *weight, scale, bias = operands
    arrays = [_array(value) for value in weight]
    whole = int8.integers(*arrays) if len(arrays) == 1 else int4.integers(*arrays)
    matrix = w.op(
        "DequantizeLinear",
        w.constant(whole, np.int8, name="weight"),
        w.constant(_array(scale), w.float_type.numpy(), name="scale"),
        name="matrix",
        axis=1,
    )
    return w.op("Add", w.op("MatMul", input, matrix), bias, name="sum")


def _feed_forward_add(
    w: OnnxWriter,
    residual: ir.Value,
    input: ir.Value,
    norm_weight: ir.Value,
    norm_bias: ir.Value,
    *operands: ir.Value,
    epsilon: float,
    activation: str,
) -> ir.Value:
    half = len(operands) // 2
    normed = w.layer_norm(input, norm_weight, norm_bias, epsilon)
    features = activated(w, _linear(w, normed, *operands[:half]), activation)
    return w.op("Add", residual, _linear(w, features, *operands[half:]), name="output")


def _array(value: ir.Value) -> np.ndarray:
    if value.const_value is None:
        raise ExportError(f"{value.name} should be a weight: this is a fault of the exporter")
    return value.const_value.numpy()
