"""Replaces our operators by nodes that TensorRT plugins run; each node launches one kernel once.

The `tensorrt.py` of an operator (in `reformer_ops`) defines its chain of plugins. The number of the
kernel is the only attribute of a node. `reformer-export build-kernels` compiles the kernels,
`plugin_kernels.py` reads them, `plugin_defs.py` declares the plugins to TensorRT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reformer_export.errors import ExportError
from reformer_export.exporters.onnx.linear import write_linear_out
from reformer_export.exporters.onnx.passes import fixed_sizes, operator_nodes, write_norms_out
from reformer_export.exporters.tensorrt.plugin_kernels import PluginKernel
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.core.tensorrt import KERNEL
from reformer_ops.registry import by_onnx_name
from reformer_ops.tensorrt_forms import FORMS

if TYPE_CHECKING:
    import onnx_ir as ir


def use_plugins(model: ir.Model, kernels: Mapping[str, PluginKernel]) -> None:
    """Replace our operators by plugin nodes, and remove the operators' bodies.

    Args:
        model: changed in place. The number of heads and their size must be known for our nodes'
            inputs, as they are in every model that we export with its operators as nodes.
        kernels: the kernels of this model, from `load_kernels`.

    Raises:
        ExportError: the model has no nodes of ours, its sizes or types are not known, or the
            kernels were compiled for another model.
    """
    nodes = operator_nodes(model)
    if not nodes:
        raise ExportError(
            "the model has no operators of ours for plugins to run: export it with --ops auto"
        )
    chains = [_chain(node, kernels) for node in nodes]
    write_norms_out(model)
    write_linear_out(model)
    for node, chain in zip(nodes, chains, strict=True):
        _replace(model.graph, node, chain)
    model.functions.clear()


def _chain(node: ir.Node, kernels: Mapping[str, PluginKernel]) -> list[PluginKernel]:
    """The kernels that compute the node, in order."""
    form = FORMS[node.op_type]
    sizes = _sizes(node, form.op)
    dtype = _model_type(node)
    attributes = {a.name: node.attributes[a.name].value for a in form.op.attributes}
    wanted = form.constants(attributes, sizes)
    compiled = {kernel.step for kernel in kernels.values() if kernel.dtype == dtype}
    chain = [_find(kernels, step, dtype, node) for step in form.steps(compiled, sizes)]
    for kernel in chain:
        found = {name: kernel.constants[name] for name in wanted if name in kernel.constants}
        if different := [name for name, value in found.items() if value != wanted[name]]:
            name = different[0]
            raise ExportError(
                f"{kernel.name} is compiled for {name} = {found[name]}, but {node.name} has "
                f"{wanted[name]}: build the kernels of this model"
            )
    if misfit := form.misfit(chain, attributes, sizes):
        raise ExportError(f"{node.name}: {misfit}: build its kernels")
    return chain


def _find(
    kernels: Mapping[str, PluginKernel], step: str, dtype: str, node: ir.Node
) -> PluginKernel:
    for kernel in kernels.values():
        if kernel.step == step and kernel.dtype == dtype:
            return kernel
    raise ExportError(
        f"no kernel {step} of type {dtype} for {node.name}: build the kernels of this model"
    )


def _replace(graph: ir.Graph, node: ir.Node, chain: Sequence[PluginKernel]) -> None:
    import onnx_ir as ir

    op = by_onnx_name(node.op_type)
    values: dict[str, ir.Value | None] = {}
    axes: dict[str, Any] = {}
    for operand, value in zip(op.inputs, node.inputs, strict=True):
        values[operand.name] = value
        if value is not None and value.shape is not None:
            axes |= dict(zip(operand.axes, value.shape, strict=True))
    nodes: list[ir.Node] = []
    for kernel in chain:
        name = f"{node.name}/{kernel.step}"
        outputs = [
            ir.Value(
                name=f"{name}/{operand.name}",
                type=ir.TensorType(_onnx_type(operand.dtype, kernel.dtype)),
                shape=ir.Shape([axes[axis] for axis in operand.axes]),
            )
            for operand in kernel.plugin.outputs
        ]
        inputs = [values[operand.name] for operand in kernel.plugin.inputs]
        attribute = ir.AttrInt64(KERNEL, kernel.number)
        nodes.append(
            ir.Node(DOMAIN, kernel.plugin.name, inputs, [attribute], outputs=outputs, name=name)
        )
        values |= {o.name: v for o, v in zip(kernel.plugin.outputs, outputs, strict=True)}
    old, new = node.outputs[0], nodes[-1].outputs[0]
    axes_to_go = [
        index
        for index, axis in enumerate(chain[-1].plugin.outputs[0].axes)
        if axis not in op.outputs[0].axes
    ]
    if axes_to_go:  # these have size 1; for others the chain has one more kernel
        name = f"{node.name}/axes"
        constant = ir.tensor(axes_to_go, dtype=ir.DataType.INT64)
        shape, type_ = ir.Shape([len(axes_to_go)]), ir.TensorType(ir.DataType.INT64)
        value = ir.Value(name=name, type=type_, shape=shape, const_value=constant)
        graph.register_initializer(value)
        nodes.append(ir.node("Squeeze", [new, value], name=f"{node.name}/squeeze"))
        new = nodes[-1].outputs[0]
        new.type, new.shape = old.type, old.shape
    name = str(old.name)
    graph.insert_before(node, nodes)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    new.name = name


def _sizes(node: ir.Node, op: OpSpec) -> dict[str, int]:
    """The fixed sizes of the node; ExportError if any but batch and length is not fixed."""
    found = fixed_sizes(node, op)
    wanted = {axis for operand in op.inputs for axis in operand.axes} - {"batch", "length"}
    if missing := sorted(wanted - found.keys()):
        raise ExportError(
            f"kernels are compiled for sizes, and the model does not tell {', '.join(missing)} of "
            f"{node.name}: export it anew, or run shape inference over it"
        )
    return found


def _model_type(node: ir.Node) -> str:
    """The model's type, by its NumPy name, from the node's first input of that type."""
    op = by_onnx_name(node.op_type)
    for operand, value in zip(op.inputs, node.inputs, strict=True):
        if operand.dtype == "float" and value is not None and value.dtype is not None:
            return {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}.get(
                value.dtype.name, value.dtype.name
            )
    raise ExportError(f"the model does not tell the type of the inputs of {node.name}")


def _onnx_type(dtype: str, model_type: str) -> ir.DataType:
    import onnx_ir as ir

    return {
        "float32": ir.DataType.FLOAT,
        "float16": ir.DataType.FLOAT16,
        "bfloat16": ir.DataType.BFLOAT16,
        "int32": ir.DataType.INT32,
        "bool": ir.DataType.BOOL,
    }[model_type if dtype == "float" else dtype]
