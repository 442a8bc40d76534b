"""Turns an artifact's graph into the graph for TensorRT's parser.

A strongly typed engine computes in the types of the graph, so precision is decided here, in ONNX:
weights and activations in the engine's type; hashing, norms, softmax and logsumexp in fp32. The
result of `lower` has only standard operators, so that any runtime can verify its outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from reformer_export.errors import ExportError
from reformer_export.exporters.onnx.linear import write_linear_out
from reformer_export.exporters.onnx.lint import lint
from reformer_export.exporters.onnx.passes import inline_bodies, write_norms_out
from reformer_export.exporters.tensorrt.weights import write_quantised_out
from reformer_ops.core.onnx_writer import OnnxWriter
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.onnx_bodies import write_body
from reformer_ops.registry import by_onnx_name
from reformer_ops.tensorrt_forms import FORMS

IR_TYPES = {
    "fp32": ir.DataType.FLOAT,
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
}


def lower(model: ir.Model, dtype: str, *, fp32_products: bool = True) -> None:
    """Rewrite an exported model, in place, for an engine of the type `dtype`.

    Calls `set_types`, then replaces each of our nodes by standard nodes named after it.

    Args:
        model: as `to-onnx` writes it, in fp32 or already in `dtype`.
        dtype: "fp32", "fp16" or "bf16".
        fp32_products: True if the device can multiply fp32 matrices. If False, hashing is a
            convolution, which needs no such product and has the same results.

    Raises:
        ExportError: a weight is beyond the range of `dtype`.
    """
    set_types(model, dtype)
    write = write_body if fp32_products else _write_without_fp32_products
    inline_bodies(model, IR_TYPES[dtype], write)
    common_passes.RemoveUnusedNodesPass()(model)  # and weights that another form replaced
    lint(model)


def set_types(model: ir.Model, dtype: str) -> None:
    """Convert weights and values of a model to the engine's type, in place; norms stay fp32.

    Inputs and outputs keep their names, types and axes. Our operators stay nodes, without bodies.

    Raises:
        ExportError: a weight is beyond the range of `dtype`.
    """
    float_type = IR_TYPES[dtype]
    write_norms_out(model)
    write_quantised_out(model)
    write_linear_out(model)
    model.functions.clear()  # they are written in the former type
    if float_type == ir.DataType.FLOAT:
        return
    outputs = [value.type for value in model.graph.outputs]
    _narrow(model.graph, float_type)
    _raise_norms(model.graph, float_type)
    _restore_outputs(model.graph, outputs)


def _narrow(graph: ir.Graph, float_type: ir.DataType) -> None:
    """Convert all fp32 values and weights to `float_type`, except fp32 inputs of our operators."""
    kept = {
        id(value)
        for node in graph
        if (op := _op_of(node)) is not None
        for value, operand in zip(node.inputs, op.inputs, strict=True)
        if operand.dtype == "float32"
    }
    for value in graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT and id(value) not in kept:
            value.const_value = _narrowed(value, float_type)
            value.type = ir.TensorType(float_type)
    for node in graph:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(float_type)
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", float_type)


def _narrowed(value: ir.Value, float_type: ir.DataType) -> ir.TensorProtocol:
    array = _constant(value)
    with np.errstate(over="ignore"):
        narrowed = array.astype(float_type.numpy())
    if (np.isinf(narrowed) & np.isfinite(array)).any():
        raise ExportError(
            f"the weight {value.name} goes up to {np.abs(array).max():.3g}, beyond the range of "
            f"{float_type.name.lower()}: choose --dtype bf16 or fp32"
        )
    return ir.tensor(narrowed, dtype=float_type, name=value.name)


def _raise_norms(graph: ir.Graph, float_type: ir.DataType) -> None:
    """Compute each LayerNormalization in fp32, between casts."""
    for node in list(graph):
        if node.op_type != "LayerNormalization":
            continue
        source = node.inputs[0]
        up = _cast(source, ir.DataType.FLOAT, f"{node.name}/to_fp32")
        graph.insert_before(node, up)
        node.replace_input_with(0, up.outputs[0])
        for index in range(1, len(node.inputs)):
            node.replace_input_with(index, _widened(graph, node.inputs[index]))
        output = node.outputs[0]
        down = _cast(output, float_type, f"{node.name}/to_{float_type.name.lower()}")
        ir.convenience.replace_all_uses_with(output, down.outputs[0], replace_graph_outputs=True)
        down.replace_input_with(0, output)
        down.outputs[0].name, output.name = output.name, f"{output.name}/fp32"
        output.type = ir.TensorType(ir.DataType.FLOAT)
        graph.insert_after(node, down)


def _widened(graph: ir.Graph, value: ir.Value | None) -> ir.Value | None:
    """A norm's scale or bias in fp32, with the values that are rounded to the engine's type."""
    if value is None or value.dtype == ir.DataType.FLOAT:
        return value
    name = f"{value.name}/fp32"
    if name not in graph.initializers:
        array = _constant(value).astype(np.float32)
        widened = ir.Value(
            name=name,
            shape=value.shape,
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=ir.tensor(array, name=name),
        )
        graph.register_initializer(widened)
    return graph.initializers[name]


def _restore_outputs(graph: ir.Graph, types: list[Any]) -> None:
    """Cast outputs to their former types, so that all engines of a model have one interface."""
    for index, wanted in enumerate(types):
        output = graph.outputs[index]
        if output.dtype == wanted.dtype:
            continue
        cast = _cast(output, wanted.dtype, f"{output.name}/Cast")
        cast.outputs[0].name, output.name = output.name, f"{output.name}/computed"
        graph.append(cast)
        graph.outputs[index] = cast.outputs[0]


def _cast(value: ir.Value | None, to: ir.DataType, name: str) -> ir.Node:
    if value is None:
        raise ExportError(f"{name} has nothing to cast: this is a fault of the exporter")
    output = ir.Value(name=f"{name}/output", shape=value.shape, type=ir.TensorType(to))
    attributes = [ir.AttrInt64("to", to)]
    return ir.Node("", "Cast", [value], attributes, outputs=[output], name=name)


def _write_without_fp32_products(
    op: OpSpec, writer: OnnxWriter, *inputs: ir.Value, **attributes: Any
) -> tuple[ir.Value, ...]:
    form = FORMS.get(op.name)
    written = form and form.write_without_fp32_products(writer, *inputs, **attributes)
    return written or write_body(op, writer, *inputs, **attributes)


def _op_of(node: ir.Node) -> OpSpec | None:
    return by_onnx_name(node.op_type) if node.domain == DOMAIN else None


def _constant(value: ir.Value) -> np.ndarray:
    tensor = value.const_value
    if tensor is None:
        raise ExportError(f"{value.name} should be a weight: this is a fault of the exporter")
    return tensor.numpy()
