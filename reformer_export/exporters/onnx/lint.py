"""Refuses graphs that some runtime would reject late or run with different results."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from reformer_export.errors import ExportError
from reformer_ops.core.spec import DOMAIN

MAX_TOPK = 3840
"""TensorRT's limit. A larger k fails only when the engine is built, long after parsing."""

MAX_RANK = 8
"""TensorRT's limit on the number of axes of a tensor."""

_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_REFUSED_BY_TENSORRT = {
    "Attention",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Compress",
    "ConvInteger",
    "EyeLike",
    "MatMulInteger",
    "NonZero",
    "Unique",
}
_SCATTERS = {"ScatterElements", "ScatterND"}
_NOT_ON_BOOL = {"ArgMax", "ArgMin", "CumSum"}
_NOT_ON_INTEGERS = {"Gemm", "MatMul"}
_REFUSED_TYPES = {
    ir.DataType.DOUBLE: "TensorRT turns doubles into floats without a word",
    ir.DataType.INT16: "TensorRT has no int16",
    ir.DataType.UINT8: "TensorRT has no uint8 arithmetic",
    ir.DataType.UINT32: "TensorRT has no unsigned integers",
    ir.DataType.UINT64: "TensorRT has no unsigned integers",
}


def lint(model: ir.Model, *, for_tensorrt: bool = True) -> None:
    """Check every node of the graph and of its functions. Unknown types are not checked.

    Args:
        for_tensorrt: also refuse nodes that TensorRT does not support.

    Raises:
        ExportError: names the first node that breaks a rule, and the rule.
    """
    for node in _nodes(model):
        problem = _problem(node, model)
        if problem is None and for_tensorrt:
            problem = _problem_of_tensorrt(node)
        if problem is not None:
            raise ExportError(
                f"the graph has {node.op_type} ({node.name}): {problem}. This is a fault of the "
                "exporter or of an operator added to it, not of the checkpoint"
            )


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for body in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(body)


def _problem(node: ir.Node, model: ir.Model) -> str | None:
    if node.domain == DOMAIN:
        has_body = any(name == node.op_type for _, name, _ in model.functions)
        return None if has_body else "it has no function body, so plain runtimes cannot run it"
    if node.domain:
        return f"operators of the domain {node.domain} are not standard"
    if node.op_type in _RANDOM:
        return "random numbers differ from run to run; rotations must be weights"
    return None


def _problem_of_tensorrt(node: ir.Node) -> str | None:
    if node.op_type in _REFUSED_BY_TENSORRT:
        return "TensorRT does not take it"
    if node.op_type in _SCATTERS and node.attributes.get_string("reduction", "none") != "none":
        return "TensorRT takes no reduction in a scatter"
    if node.op_type == "LayerNormalization" and len(node.outputs) > 1:
        return "TensorRT takes one output of it only"
    if node.op_type == "TopK":
        k = node.inputs[1]
        count = None if k is None else ir.convenience.get_const_tensor(k)
        if count is None or int(count.numpy().reshape(-1)[0]) > MAX_TOPK:
            return f"TensorRT takes a constant k of at most {MAX_TOPK}"
    read = node.inputs[0].dtype if node.inputs and node.inputs[0] is not None else None
    if node.op_type in _NOT_ON_BOOL and read == ir.DataType.BOOL:
        return "TensorRT does not take it on booleans"
    if node.op_type in _NOT_ON_INTEGERS and read is not None and read.is_integer():
        return "TensorRT multiplies no matrices of integers"
    for value in node.outputs:
        if value.shape is not None and value.shape.rank() > MAX_RANK:
            return f"TensorRT takes tensors of at most {MAX_RANK} axes"
    return next((_REFUSED_TYPES[kind] for kind in _types(node) if kind in _REFUSED_TYPES), None)


def _types(node: ir.Node) -> Iterator[ir.DataType]:
    """Every known type that the node handles; in a function body, only attributes tell types."""
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.dtype is not None:
            yield value.dtype
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            yield attribute.as_tensor().dtype
        elif attribute.type == ir.AttributeType.INT and attribute.name in ("to", "dtype"):
            yield ir.DataType(attribute.as_int())
