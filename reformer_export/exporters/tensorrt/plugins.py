"""Our operators as nodes that TensorRT plugins run, one launch of one kernel a node.

A plugin has neither memory of its own nor a second launch, so an operator becomes a chain:

    LshBucket             lsh_bucket
    SortedChunkAttention  sort_first_pass [sort_next_pass ...] attend_rounds combine_rounds
    ChunkAttention        chunk_attention

With one round of hashing there is nothing to combine. Each node has the number of its kernel as its
only attribute. `tensorrt_plugin_nodes.py` declares the nodes, `reformer-export build-kernels`
compiles the kernels, `tensorrt_plugin_kernels.py` reads them, `tensorrt_plugin_defs.py` tells
TensorRT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reformer_export.errors import ExportError
from reformer_export.exporters.onnx.passes import operator_nodes, write_norms_out
from reformer_export.exporters.tensorrt.plugin_kernels import PluginKernel
from reformer_export.exporters.tensorrt.plugin_nodes import KERNEL
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.registry import by_onnx_name

if TYPE_CHECKING:
    import onnx_ir as ir


def use_plugins(model: ir.Model, kernels: Mapping[str, PluginKernel]) -> None:
    """Put plugin nodes in the place of our operators, and drop the operators' bodies.

    Args:
        model: changed in place. The number of heads and their size must be known for our nodes'
            inputs, as they are in every model that we export with its operators as nodes.
        kernels: those of this model, as `load_kernels` reads them.

    Raises:
        ExportError: a model without nodes of ours, one whose sizes or types are not known, or
            kernels that were compiled for another model.
    """
    nodes = operator_nodes(model)
    if not nodes:
        raise ExportError(
            "the model has no operators of ours for plugins to run: export it with --ops auto"
        )
    chains = [_chain(node, kernels) for node in nodes]
    write_norms_out(model)
    for node, chain in zip(nodes, chains, strict=True):
        _replace(model.graph, node, chain)
    model.functions.clear()


def _chain(node: ir.Node, kernels: Mapping[str, PluginKernel]) -> list[PluginKernel]:
    """The kernels that do what the node does, in their order."""
    op = by_onnx_name(node.op_type)
    sizes = _sizes(node, op)
    dtype = _model_type(node)
    wanted = _constants(node, op, sizes)
    names = ["lsh_bucket"] if op.name == "LshBucket" else ["chunk_attention"]
    if op.name == "SortedChunkAttention":
        passes = sorted(
            kernel.step
            for kernel in kernels.values()
            if kernel.step.startswith("sort_pass_") and kernel.dtype == dtype
        )
        names = [*passes, "attend_rounds"]
        names += ["combine_rounds"] if sizes["num_hashes"] > 1 else []
    chain = [_find(kernels, name, dtype, node) for name in names]
    for kernel in chain:
        found = {name: kernel.constants[name] for name in wanted if name in kernel.constants}
        if different := [name for name, value in found.items() if value != wanted[name]]:
            name = different[0]
            raise ExportError(
                f"{kernel.name} is compiled for {name} = {found[name]}, but {node.name} has "
                f"{wanted[name]}: build the kernels of this model"
            )
    if op.name == "SortedChunkAttention":
        _check_sort(node, chain, sizes["heads"] * sizes["num_hashes"])
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


def _constants(node: ir.Node, op: OpSpec, sizes: Mapping[str, int]) -> dict[str, Any]:
    """What must be compiled into the kernels of a node, by the kernels' names for it."""
    wanted: dict[str, Any] = {
        axis.upper(): sizes[axis] for axis in ("heads", "head_dim", "num_hashes") if axis in sizes
    }
    values = {a.name: node.attributes[a.name].value for a in op.attributes}
    if op.name == "LshBucket":
        halves = [factor // 2 for factor in values["factors"]]
        return wanted | {"HALVES": halves, "COLUMNS": sizes["half_factors"]}
    return wanted | {
        "CHUNK_LENGTH": values["chunk_length"],
        "CHUNKS_BEFORE": values["num_chunks_before"],
        "CHUNKS_AFTER": values["num_chunks_after"],
        "CAUSAL": bool(values["causal"]),
    }


def _check_sort(node: ir.Node, chain: Sequence[PluginKernel], rows: int) -> None:
    """ExportError unless the passes sort every bucket, padding's too, of so many rows."""
    bits = 0
    passes = [kernel for kernel in chain if kernel.step.startswith("sort_pass_")]
    for kernel in passes:
        if kernel.constants["SHIFT"] != bits or kernel.times != rows:
            raise ExportError(f"{kernel.name} does not belong to {node.name}: build its kernels")
        bits += kernel.constants["DIGITS"].bit_length() - 1
    if bits < node.attributes["num_buckets"].as_int().bit_length():
        raise ExportError(
            f"the kernels sort {bits} bits of a bucket, and {node.name} has "
            f"{node.attributes['num_buckets'].value} buckets: build its kernels"
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
    if chain[-1].plugin.name == "attend_rounds":  # of one round, whose axis goes
        axis = ir.Value(
            name=f"{node.name}/round",
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape([1]),
            const_value=ir.tensor([1], dtype=ir.DataType.INT64),
        )
        graph.register_initializer(axis)
        nodes.append(ir.node("Squeeze", [new, axis], name=f"{node.name}/squeeze"))
        new = nodes[-1].outputs[0]
        new.type, new.shape = old.type, old.shape
    name = str(old.name)
    graph.insert_before(node, nodes)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    new.name = name


def _sizes(node: ir.Node, op: OpSpec) -> dict[str, int]:
    """The node's axes that have numbers, by the operator's names for them."""
    found: dict[str, int] = {}
    for operand, value in zip(op.inputs, node.inputs, strict=True):
        shape = None if value is None else value.shape
        if shape is not None:
            found |= {
                axis: size
                for axis, size in zip(operand.axes, shape, strict=True)
                if isinstance(size, int)
            }
    wanted = {axis for operand in op.inputs for axis in operand.axes} - {"batch", "length"}
    if missing := sorted(wanted - found.keys()):
        raise ExportError(
            f"kernels are compiled for sizes, and the model does not tell {', '.join(missing)} of "
            f"{node.name}: export it anew, or run shape inference over it"
        )
    return found


def _model_type(node: ir.Node) -> str:
    """The type of the node's first input that is of the model's type, by its NumPy name."""
    op = by_onnx_name(node.op_type)
    for operand, value in zip(op.inputs, node.inputs, strict=True):
        if operand.dtype == "float" and value is not None and value.dtype is not None:
            return {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}.get(
                value.dtype.name, value.dtype.name
            )
    raise ExportError(f"the model does not tell of what type the inputs of {node.name} are")


def _onnx_type(dtype: str, model_type: str) -> ir.DataType:
    import onnx_ir as ir

    return {
        "float32": ir.DataType.FLOAT,
        "float16": ir.DataType.FLOAT16,
        "bfloat16": ir.DataType.BFLOAT16,
        "int32": ir.DataType.INT32,
        "bool": ir.DataType.BOOL,
    }[model_type if dtype == "float" else dtype]
