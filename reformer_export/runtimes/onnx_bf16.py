"""Converts a bf16 graph for a runtime without bf16: to fp32, with rounding after every operation.

onnxruntime has almost no bf16 kernels on the CPU. Therefore each bf16 tensor is stored in fp32, and
the result of each operation is rounded to bf16 (to nearest, ties to even) before it is used.
Products accumulate in fp32, as on a GPU.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

# These operators only move numbers, so there is nothing to round.
_MOVES = frozenset(
    {
        "Concat", "Expand", "Flatten", "Gather", "GatherElements", "Identity", "Pad", "Reshape",
        "ScatterElements", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip


def emulate_bf16(model: ir.Model) -> ir.Model:
    """Rewrite a model in place so that no operation computes in bf16, but all numbers are rounded
    to bf16.

    Inputs and outputs must not be bf16. Functions must have been inlined.
    """
    common_passes.ShapeInferencePass(data_prop=False)(model)
    graph = model.graph
    for value in graph.initializers.values():
        if value.dtype == ir.DataType.BFLOAT16 and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32))
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in list(graph):
        for output in node.outputs:
            if output.dtype == ir.DataType.BFLOAT16:
                _round(graph, node, output)
    return model


def _round(graph: ir.Graph, node: ir.Node, output: ir.Value) -> None:
    """Make `output` fp32 for its consumers; round it to bf16 unless `node` only moves numbers."""
    if node.op_type in _MOVES:
        output.type = ir.TensorType(ir.DataType.FLOAT)
        return
    rounded, last = output, node
    if node.op_type != "Cast":
        output.type = ir.TensorType(ir.DataType.FLOAT)
        rounded, last = _cast_after(graph, node, output, ir.DataType.BFLOAT16)
    widened, last = _cast_after(graph, last, rounded, ir.DataType.FLOAT)
    consumers = [use for use in output.uses() if use.node not in (rounded.producer(), last)]
    for consumer, index in consumers:
        consumer.replace_input_with(index, widened)


def _cast_after(
    graph: ir.Graph, node: ir.Node, value: ir.Value, to: ir.DataType
) -> tuple[ir.Value, ir.Node]:
    name = f"{value.name}/{to.name.lower()}"
    output = ir.Value(name=name, shape=value.shape, type=ir.TensorType(to))
    cast = ir.Node("", "Cast", [value], [ir.AttrInt64("to", to)], outputs=[output], name=name)
    graph.insert_after(node, cast)
    return output, cast
