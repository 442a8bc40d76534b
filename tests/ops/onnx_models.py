"""Models of one operator, for plain onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx_ir as ir
import onnxruntime

from reformer_ops.core.onnx_writer import OnnxWriter, as_attributes
from reformer_ops.core.spec import DOMAIN, AttributeValue, OpSpec
from reformer_ops.onnx_bodies import function, write_body
from reformer_ops.registry import by_onnx_name

Form = Literal["node", "function", "inlined"]
"""A node alone, for our kernels; a node with its body as a function; the body in the graph."""

OPSET = 18
_TYPES = {
    "float16": ir.DataType.FLOAT16,
    "float32": ir.DataType.FLOAT,
    "int32": ir.DataType.INT32,
    "int8": ir.DataType.INT8,
    "uint8": ir.DataType.UINT8,
    "wide": ir.DataType.FLOAT,
    "bool": ir.DataType.BOOL,
}


def make_model(
    op: OpSpec,
    attributes: dict[str, AttributeValue],
    dtype: str,
    form: Form,
    sizes: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model whose inputs and outputs have the names and shapes of the spec.

    `sizes` are of axes that are not dynamic.
    """
    types = {**_TYPES, "float": _TYPES[dtype]}
    inputs, outputs = (
        [
            ir.Value(
                name=operand.name,
                type=ir.TensorType(types[operand.dtype]),
                shape=ir.Shape([(sizes or {}).get(axis, axis) for axis in operand.axes]),
            )
            for operand in operands
        ]
        for operands in (op.inputs, op.outputs)
    )
    functions = []
    imports = {"": OPSET}
    if form == "inlined":
        writer = OnnxWriter(types["float"], prefix="body/")
        results = write_body(op, writer, *inputs, **attributes)
        for result, declared in zip(results, outputs, strict=True):
            result.name, result.type, result.shape = declared.name, declared.type, declared.shape
        nodes, outputs = writer.nodes, list(results)
    else:
        nodes = [ir.Node(DOMAIN, op.name, inputs, as_attributes(attributes), outputs=outputs)]
        imports[DOMAIN] = op.version
        if form == "function":
            functions.append(function(op, types["float"], OPSET, **attributes))
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports=imports, name=op.torch_name)
    return ir.to_proto(ir.Model(graph, ir_version=10, functions=functions))


def make_session(
    model: onnx.ModelProto,
    *,
    optimised: bool = True,
    library: Path | None = None,
    threads: int = 1,
) -> onnxruntime.InferenceSession:
    """A session; by default with one thread, because tests run in parallel.

    With `library`, it runs our kernels.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if library is not None:
        options.register_custom_ops_library(str(library))
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@lru_cache(maxsize=32)  # a session takes megabytes of memory
def cached_session(
    name: str,
    attributes: tuple[tuple[str, Any], ...],
    dtype: str,
    form: Form,
    optimised: bool = True,
    library: Path | None = None,
    sizes: tuple[tuple[str, int], ...] = (),
) -> onnxruntime.InferenceSession:
    """One session for all cases that differ only in the sizes of dynamic axes."""
    model = make_model(by_onnx_name(name), dict(attributes), dtype, form, dict(sizes))
    if form != "node":  # the checker does not know our operators
        onnx.checker.check_model(model, full_check=True)
    return make_session(model, optimised=optimised, library=library)
