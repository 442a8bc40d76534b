"""Passes over a traced graph before it is written: names, axes, and the operators' bodies."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from reformer_export.errors import ExportError
from reformer_ops.add_norm.spec import ADD_NORM, WIDEST
from reformer_ops.core.onnx_writer import OnnxWriter, as_attributes
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.onnx_bodies import function, write_body
from reformer_ops.registry import ALL, OPS, by_onnx_name

Write = Callable[..., tuple[ir.Value, ...]]
"""A function that writes an operator's body, such as `write_body`."""

_SCOPES = "pkg.torch.onnx.name_scopes"

_SHARED_SIZE = 4096
"""Constants with at most this number of elements are compared: those of bodies, but no weights."""


def tidy(
    model: ir.Model,
    *,
    inputs: Mapping[str, Sequence[str | int]],
    outputs: Mapping[str, Sequence[str | int]],
) -> None:
    """Store weights in the layout that nodes use; give axes and nodes readable names.

    Args:
        inputs, outputs: the axes of each input and output, in order; a number is a fixed size.
    """
    _fold_weight_transposes(model.graph)
    common_passes.RemoveUnusedNodesPass()(model)
    _name_axes(model.graph, inputs, outputs)
    _name_nodes(model.graph)
    _order_attributes(model.graph)
    _drop_trace_metadata(model)


def widen_bf16_outputs(model: ir.Model) -> None:
    """Cast the outputs of a bf16 model to fp32, because NumPy and most callers have no bf16."""
    graph = model.graph
    for index, output in enumerate(graph.outputs):
        if output.dtype != ir.DataType.BFLOAT16:
            continue
        widened = ir.Value(
            name=output.name, shape=output.shape, type=ir.TensorType(ir.DataType.FLOAT)
        )
        output.name = f"{output.name}/bf16"
        to = ir.AttrInt64("to", ir.DataType.FLOAT)
        graph.append(
            ir.Node("", "Cast", [output], [to], outputs=[widened], name=f"{widened.name}/to_fp32")
        )
        graph.outputs[index] = widened


def store_as_fp16(model: ir.Model) -> None:
    """Store matrices that lose nothing by it in fp16, each with a Cast to fp32 after it.

    Runtimes run the Cast once, when they load the model, so all numbers stay the same.
    """
    graph = model.graph
    casts = []
    for value in list(graph.initializers.values()):
        wide = value.const_value
        if wide is None or wide.dtype != ir.DataType.FLOAT or len(wide.shape) < 2:
            continue
        half = wide.numpy().astype(np.float16)
        if not np.array_equal(half.astype(np.float32), wide.numpy()):
            continue
        name, shape = str(value.name), ir.Shape(half.shape)
        widened = ir.Value(shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
        ir.convenience.replace_all_uses_with(value, widened)
        del graph.initializers[name]
        widened.name = f"{name}/fp32"
        stored = ir.Value(
            name=name,
            shape=shape,
            type=ir.TensorType(ir.DataType.FLOAT16),
            const_value=ir.tensor(half),
        )
        graph.register_initializer(stored)
        to = ir.AttrInt64("to", ir.DataType.FLOAT)
        casts.append(ir.Node("", "Cast", [stored], [to], outputs=[widened], name=f"{name}/Cast"))
    graph.insert_before(graph[0], casts)


def fuse_norms(model: ir.Model) -> None:
    """Replace a sum of two streams and the norm after it by one node, `AddNorm`.

    ONNX Runtime fuses these two only if the sum has no other consumer; in a Reformer it has one.
    """
    for node in list(model.graph):
        if node.op_type != "LayerNormalization" or node.domain:
            continue
        total, *parameters = node.inputs
        add = None if total is None else total.producer()
        if add is None or add.op_type != "Add" or add.domain or len(parameters) != 2:
            continue
        operands = [*add.inputs, *parameters]
        if not all(value is not None and _fits(value, total) for value in operands):
            continue
        _replace_by_add_norm(model.graph, add, node)
        model.opset_imports.setdefault(DOMAIN, 1)  # full layers have no operator of this domain


def _fits(value: ir.Value, total: ir.Value | None) -> bool:
    """True if `AddNorm` accepts a value: it has the total's shape, or is a vector of its width."""
    if total is None or total.shape is None or value.shape is None or len(total.shape) != 3:
        return False
    width = total.shape[2]
    if not isinstance(width, int) or width > WIDEST or value.dtype != total.dtype:
        return False
    return tuple(value.shape) in (tuple(total.shape), (width,))


def _replace_by_add_norm(graph: ir.Graph, add: ir.Node, norm: ir.Node) -> None:
    epsilon = norm.attributes["epsilon"].as_float()
    outputs = []
    for old in (add.outputs[0], norm.outputs[0]):
        outputs.append(ir.Value(name=old.name, shape=old.shape, type=old.type))
        old.name = f"{old.name}/before"
    fused = ir.Node(
        DOMAIN,
        ADD_NORM.name,
        [*add.inputs, *norm.inputs[1:]],
        as_attributes({"epsilon": epsilon}),
        outputs=outputs,
        name=norm.name.replace("LayerNormalization", ADD_NORM.name) if norm.name else None,
        version=None,
    )
    graph.insert_before(add, fused)
    for old, new in zip((add.outputs[0], norm.outputs[0]), outputs, strict=True):
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove([norm, add], safe=True)


def fixed_sizes(node: ir.Node, op: OpSpec) -> dict[str, int]:
    """The fixed sizes of a node's inputs, by the operator's names of the axes."""
    return {
        axis: size
        for operand, value in zip(op.inputs, node.inputs, strict=True)
        if value is not None and value.shape is not None
        for axis, size in zip(operand.axes, value.shape, strict=True)
        if isinstance(size, int)
    }


def operator_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes of the operators in `OPS`, so without norms and linear layers."""
    names = {op.name for op in OPS}
    return [node for node in model.graph if node.domain == DOMAIN and node.op_type in names]


def write_norms_out(model: ir.Model) -> None:
    """The reverse of `fuse_norms`, for passes that treat sums and norms separately."""
    inline(model, ir.DataType.FLOAT, (ADD_NORM,), write_body)  # the body is the same for all types


def attach_bodies(model: ir.Model, float_type: ir.DataType) -> None:
    """Give every operator of ours its body as a model-local function.

    This comes last: optimizers inline functions, which removes the nodes that our kernels need.

    Raises:
        ExportError: two nodes of one operator differ in attributes. TensorRT distinguishes
            functions only by name, so an operator can have only one body.
    """
    opset = model.opset_imports[""]
    for op in ALL:
        nodes = [node for node in model.graph if _op_of(node) == op]
        if not nodes:
            continue
        attributes = _attributes(op, nodes[0])
        for node in nodes[1:]:
            if _attributes(op, node) != attributes:
                raise ExportError(
                    f"{node.name} and {nodes[0].name} are both {op.name} but differ in their "
                    f"attributes, which one function body cannot serve: export with --ops portable"
                )
        body = function(op, float_type, opset, **attributes)
        model.functions[body.identifier()] = body


def inline_bodies(model: ir.Model, float_type: ir.DataType, write: Write = write_body) -> None:
    """Replace every operator of ours by its body, under the node's own name.

    Layers share what they compute alike, such as the limits of local attention: ONNX Runtime
    would not find all of it, because it does not compare folded constants.

    `write` writes the bodies; it has the parameters of `write_body`.
    """
    inline(model, float_type, ALL, write)
    common_passes.CommonSubexpressionEliminationPass(size_limit=_SHARED_SIZE)(model)
    model.functions.clear()
    model.opset_imports.pop(DOMAIN, None)


def inline(model: ir.Model, float_type: ir.DataType, ops: Sequence[OpSpec], write: Write) -> None:
    """Replace the nodes of these operators by their bodies, under the node's own name."""
    for node in list(model.graph):
        op = _op_of(node)
        if op is None or op not in ops:
            continue
        prefix = f"{node.name}/"
        taken = [str(output.name).removeprefix(prefix) for output in node.outputs]
        writer = OnnxWriter(float_type, prefix, taken)
        operands = [value for value in node.inputs if value is not None]
        results = write(op, writer, *operands, **_attributes(op, node))
        names = [output.name for output in node.outputs]
        for output, result in zip(node.outputs, results, strict=True):
            result.shape, result.type = output.shape, output.type
        model.graph.insert_before(node, writer.nodes)
        for output, result in zip(node.outputs, results, strict=True):
            ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        for name, result in zip(names, results, strict=True):
            result.name = name


def bucket_values(model: ir.Model) -> list[str]:
    """Names of the values with the buckets of each LSH layer, in the order of the layers."""
    return [str(n.outputs[0].name) for n in model.graph if _op_of(n) == by_onnx_name("LshBucket")]


def _op_of(node: ir.Node) -> OpSpec | None:
    return by_onnx_name(node.op_type) if node.domain == DOMAIN else None


def _attributes(op: OpSpec, node: ir.Node) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for attribute in op.attributes:
        value = node.attributes[attribute.name].value
        values[attribute.name] = bool(value) if attribute.kind == "bool" else value
    return values


def _fold_weight_transposes(graph: ir.Graph) -> None:
    """Store each weight in the layout that MatMul takes. torch's optimizer does so only for small
    weights."""
    for node in list(graph):
        weight = node.inputs[0] if node.op_type == "Transpose" and not node.domain else None
        if weight is None or weight.const_value is None or not weight.is_initializer():
            continue
        permutation = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
        array = np.ascontiguousarray(np.transpose(weight.const_value.numpy(), permutation))
        folded = ir.Value(
            name=f"{weight.name}_transposed",
            shape=ir.Shape(array.shape),
            type=ir.TensorType(weight.const_value.dtype),
            const_value=ir.tensor(array, dtype=weight.const_value.dtype),
        )
        graph.register_initializer(folded)
        ir.convenience.replace_all_uses_with(node.outputs[0], folded)
        graph.remove(node, safe=True)


def _name_axes(
    graph: ir.Graph,
    inputs: Mapping[str, Sequence[str | int]],
    outputs: Mapping[str, Sequence[str | int]],
) -> None:
    """Replace the symbols of the trace by names of axes that users know."""
    if [value.name for value in graph.inputs] != list(inputs):
        raise ExportError(f"the traced graph has inputs {[v.name for v in graph.inputs]}")
    interface = [
        (value.shape, axes[str(value.name)])
        for values, axes in ((graph.inputs, inputs), (graph.outputs, outputs))
        for value in values
        if value.shape is not None
    ]
    # Inputs of our operators have known names of axes. Any other size is named by a number.
    known = {
        "batch": "batch",
        "length": "padded_sequence",
        "capacity": "capacity",
        "blocks": "blocks",
    }
    operands = [
        (value.shape, tuple(known.get(axis) for axis in operand.axes))
        for node in graph
        if (op := _op_of(node)) is not None
        for value, operand in zip(node.inputs, op.inputs, strict=True)
        if value is not None and value.shape is not None
    ]
    renamed: dict[str, str] = {}
    for shape, names in interface:
        for dim, name in zip(shape, names, strict=True):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None and isinstance(name, str):
                renamed.setdefault(dim.value, name)
    for shape, known_names in operands:
        for dim, known_name in zip(shape, known_names, strict=True):
            # ONNX Runtime takes axes of one name for equal, but operators may differ in length.
            if known_name is None or known_name in renamed.values():
                continue
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                renamed.setdefault(dim.value, known_name)
    for value in [*graph.inputs, *(v for node in graph for v in node.outputs)]:
        if value.shape is None:
            continue
        for index, dim in enumerate(value.shape):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                value.shape[index] = renamed.setdefault(dim.value, f"size_{len(renamed)}")


def _name_nodes(graph: ir.Graph) -> None:
    """Name nodes, their outputs and folded weights after the module they come from."""
    taken: dict[str, int] = {}

    def unique(name: str) -> str:
        count = taken.get(name, 0)
        taken[name] = count + 1
        return f"{name}_{count}" if count else name

    interface = {id(value) for value in [*graph.inputs, *graph.outputs]}
    for node in graph:
        scope = _scope(node)
        node.name = unique(f"{scope}/{node.op_type}" if scope else node.op_type)
        for value in node.inputs:
            if value is not None and value.is_initializer() and _is_generated(value.name):
                weight = value.const_value is not None and len(value.const_value.shape) > 1
                value.name = unique(f"{scope}.weight" if weight else f"{node.name}/constant")
        for index, value in enumerate(node.outputs):
            if id(value) not in interface:
                value.name = f"{node.name}/output" + (f"_{index}" if index else "")


def _scope(node: ir.Node) -> str:
    """The dotted path of the innermost module, as torch's exporter recorded it."""
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "['']"))
    scope = str(scopes[-2]) if len(scopes) > 1 else ""
    return "" if scope.startswith("_") else scope  # torch invents a scope for nodes outside modules


def _is_generated(name: str | None) -> bool:
    return name is not None and (
        name.startswith(("val_", "view", "scalar_tensor", "new_full")) or "_transposed" in name
    )


def _order_attributes(graph: ir.Graph) -> None:
    """Sort attributes in the order of the spec, because plugins read them by position."""
    for node in graph:
        op = _op_of(node)
        if op is None:
            continue
        values = _attributes(op, node)
        node.attributes.clear()
        for attribute in as_attributes(values):
            node.attributes.add(attribute)


def _drop_trace_metadata(model: ir.Model) -> None:
    """Remove stack traces and paths of the exporting machine."""
    common_passes.ClearMetadataAndDocStringPass()(model)
    graph = model.graph
    produced = (value for node in graph for value in node.outputs)
    for value in (*graph.inputs, *graph.initializers.values(), *produced):
        value.metadata_props.clear()
    model.metadata_props.clear()
    graph.metadata_props.clear()
