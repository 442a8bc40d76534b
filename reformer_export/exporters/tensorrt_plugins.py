"""Our operators as nodes that TensorRT plugins run, one launch of one kernel a node.

A plugin has neither memory of its own nor a second launch, so an operator becomes a chain:

    LshBucket             lsh_bucket
    SortedChunkAttention  sort_first_pass [sort_next_pass ...] attend_rounds combine_rounds
    ChunkAttention        chunk_attention

Each node names its kernel in its only attribute. `tensorrt_plugin_kernels.py` compiles and keeps
the kernels, `tensorrt_plugin_defs.py` tells TensorRT about plugins and kernels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reformer_export.errors import ExportError
from reformer_export.optional import require
from reformer_ops.registry import by_onnx_name
from reformer_ops.spec import DOMAIN, Operand, OpSpec

if TYPE_CHECKING:
    import onnx_ir as ir

    from reformer_ops.triton_launch import Launch

KERNEL = "kernel"
"""The attribute of every plugin node: which of the compiled kernels it launches."""

_ROWS = ("batch", "length", "heads", "head_dim")
_BUCKETS = ("batch", "heads", "num_hashes", "length")
_MASK = Operand("mask", ("batch", "length"), "bool")


@dataclass(frozen=True)
class Plugin:
    """A node type of ours that TensorRT knows as a plugin.

    Operands in the order of the kernel's arguments; `length` comes between inputs and outputs. All
    axes of outputs are axes of inputs. "float" is the model's own type.
    """

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]


PLUGINS: tuple[Plugin, ...] = (
    Plugin(
        "lsh_bucket",
        (
            Operand("query", _ROWS, "float"),
            Operand("rotations", ("heads", "head_dim", "num_hashes", "half_factors"), "float32"),
            _MASK,
        ),
        (Operand("buckets", _BUCKETS, "int32"),),
    ),
    Plugin(
        "sort_first_pass",
        (Operand("buckets", _BUCKETS, "int32"),),
        (Operand("order", _BUCKETS, "int32"),),
    ),
    Plugin(
        "sort_next_pass",
        (Operand("buckets", _BUCKETS, "int32"), Operand("order", _BUCKETS, "int32")),
        (Operand("order", _BUCKETS, "int32"),),
    ),
    Plugin(
        "attend_rounds",
        (
            Operand("query_key", _ROWS, "float"),
            Operand("value", _ROWS, "float"),
            Operand("order", _BUCKETS, "int32"),
            _MASK,
        ),
        (
            Operand("rounds", ("batch", "num_hashes", "length", "heads", "head_dim"), "float"),
            Operand("lse", ("batch", "num_hashes", "length", "heads"), "float32"),
        ),
    ),
    Plugin(
        "combine_rounds",
        (
            Operand("rounds", ("batch", "num_hashes", "length", "heads", "head_dim"), "float"),
            Operand("lse", ("batch", "num_hashes", "length", "heads"), "float32"),
        ),
        (Operand("output", _ROWS, "float"),),
    ),
    Plugin(
        "chunk_attention",
        (
            Operand("query", _ROWS, "float"),
            Operand("key", _ROWS, "float"),
            Operand("value", _ROWS, "float"),
            _MASK,
        ),
        (Operand("output", _ROWS, "float"),),
    ),
)


def plugin_named(name: str) -> Plugin:
    """KeyError when there is none."""
    return {plugin.name: plugin for plugin in PLUGINS}[name]


@dataclass(frozen=True)
class KernelRequest:
    """A kernel that nodes of a model name: what is to be compiled, and what it is compiled for.

    `dtype` is the model's type; `sizes` has those axes of the plugin's inputs that are compiled in.
    """

    name: str
    plugin: Plugin
    launch: Launch
    dtype: str
    sizes: Mapping[str, int]


def use_plugins(model: ir.Model, *, target: int) -> dict[str, KernelRequest]:
    """Put plugin nodes in the place of our operators, and drop the operators' bodies.

    Args:
        model: changed in place. The number of heads and their size must be known for our nodes'
            inputs, as they are in every model that we export with its operators as nodes.
        target: compute capability of the GPU (80 for sm_80), for which tiles are chosen.

    Returns:
        The kernels that the plugin nodes name; equal nodes share one.

    Raises:
        ExportError: a model without nodes of ours, or one whose sizes or types are not known.
        MissingDependencyError: Triton is not installed.
    """
    require("triton", purpose="choosing kernels for TensorRT plugins")
    requests: dict[str, KernelRequest] = {}
    for node in list(model.graph):
        if node.domain == DOMAIN:
            chain = _chain(node, target)
            _replace(model.graph, node, chain)
            requests |= {request.name: request for request in chain}
    if not requests:
        raise ExportError(
            "the model has no operators of ours for plugins to run: export it with --ops auto"
        )
    model.functions.clear()
    return requests


def _chain(node: ir.Node, target: int) -> list[KernelRequest]:
    """The kernels that do what the node does, in their order."""
    op = by_onnx_name(node.op_type)
    sizes = _sizes(node, op)
    dtype = _model_type(node)
    attributes = {a.name: node.attributes[a.name].value for a in op.attributes}
    attributes |= {a.name: bool(attributes[a.name]) for a in op.attributes if a.kind == "bool"}
    shape = {name: sizes[name] for name in ("heads", "head_dim", "num_hashes") if name in sizes}
    return [
        KernelRequest(_kernel_name(plugin, launch), plugin, launch, dtype, _own(plugin, sizes))
        for plugin, launch in _launches(op.name, dtype, shape, attributes, target)
    ]


def _launches(
    op: str, dtype: str, shape: Mapping[str, Any], attributes: Mapping[str, Any], target: int
) -> Iterator[tuple[Plugin, Launch]]:
    if op == "LshBucket":
        from reformer_ops.lsh_bucket.triton_kernel import lsh_bucket

        yield plugin_named("lsh_bucket"), lsh_bucket(dtype=dtype, **shape, **attributes)
    elif op == "ChunkAttention":
        from reformer_ops.chunk_attention.triton_kernel import chunk_attention

        launch = chunk_attention(dtype=dtype, **shape, **attributes, target=target)
        yield plugin_named("chunk_attention"), launch
    else:
        from reformer_ops.sorted_chunk_attention.triton_combine import combine_rounds
        from reformer_ops.sorted_chunk_attention.triton_kernel import attend_rounds
        from reformer_ops.sorted_chunk_attention.triton_sort import sort_passes

        rest = dict(attributes)
        num_buckets = rest.pop("num_buckets")
        for number, each in enumerate(
            sort_passes(
                heads=shape["heads"], num_hashes=shape["num_hashes"], num_buckets=num_buckets
            )
        ):
            plugin = plugin_named("sort_next_pass" if number else "sort_first_pass")
            yield plugin, each.place_alone
        launch = attend_rounds(dtype=dtype, **shape, **rest, target=target)
        yield plugin_named("attend_rounds"), launch
        launch = combine_rounds(dtype=dtype, **shape, chunk_length=rest["chunk_length"])
        yield plugin_named("combine_rounds"), launch


def _replace(graph: ir.Graph, node: ir.Node, chain: list[KernelRequest]) -> None:
    import onnx_ir as ir

    op = by_onnx_name(node.op_type)
    values: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    for operand, value in zip(op.inputs, node.inputs, strict=True):
        values[operand.name] = value
        if value is not None and value.shape is not None:
            axes |= dict(zip(operand.axes, value.shape, strict=True))
    nodes: list[ir.Node] = []
    for number, request in enumerate(chain):
        name = f"{node.name}/{number}_{request.plugin.name}"
        outputs = [
            ir.Value(
                name=f"{name}/{operand.name}",
                type=ir.TensorType(_onnx_type(operand.dtype, request.dtype)),
                shape=ir.Shape([axes[axis] for axis in operand.axes]),
            )
            for operand in request.plugin.outputs
        ]
        inputs = [values[operand.name] for operand in request.plugin.inputs]
        nodes.append(
            ir.Node(
                DOMAIN,
                request.plugin.name,
                inputs,
                [ir.AttrString(KERNEL, request.name)],
                outputs=outputs,
                name=name,
            )
        )
        for operand, value in zip(request.plugin.outputs, outputs, strict=True):
            values[operand.name] = value
    old, new = node.outputs[0], nodes[-1].outputs[0]
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


def _own(plugin: Plugin, sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the plugin's inputs; batch and length stay open even where a model fixes them."""
    axes = dict.fromkeys(axis for operand in plugin.inputs for axis in operand.axes)
    return {axis: sizes[axis] for axis in axes if axis in sizes and axis not in ("batch", "length")}


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


def _kernel_name(plugin: Plugin, launch: Launch) -> str:
    """Readable, and different for whatever compiles to something else."""
    what = repr((launch.inputs, launch.outputs, sorted(launch.constants.items()), launch.options))
    return f"{plugin.name}_{hashlib.sha256(what.encode()).hexdigest()[:12]}"
