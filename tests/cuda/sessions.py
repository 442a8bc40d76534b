"""ONNX Runtime sessions with our GPU operators, which run on the CPU provider here."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from reformer_ops.core.onnx_writer import as_attributes
from reformer_ops.core.spec import DOMAIN, AttributeValue
from reformer_ops.registry import by_onnx_name

from .building import build
from .kernel_files import ATTRIBUTES, SIZES

Array = NDArray[Any]

_TYPES = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "int32": ir.DataType.INT32,
    "bool": ir.DataType.BOOL,
}


@dataclass(frozen=True)
class Node:
    """A node of a model. Axes that are not in `sizes` are dynamic."""

    op: str = "ChunkAttention"
    dtype: str = "float32"
    attributes: Mapping[str, AttributeValue] = field(default_factory=lambda: ATTRIBUTES)
    sizes: Mapping[str, int] = field(default_factory=lambda: SIZES)


def model_of(*nodes: Node) -> onnx.ModelProto:
    """Each node has its own inputs and outputs: "query", or "1.query" for the second node."""
    inputs, outputs, made = [], [], []
    for number, node in enumerate(nodes):
        op = by_onnx_name(node.op)
        prefix = f"{number}." if number else ""
        taken, given = (
            [
                ir.Value(
                    name=prefix + operand.name,
                    type=ir.TensorType(
                        _TYPES[node.dtype if operand.dtype == "float" else operand.dtype]
                    ),
                    shape=ir.Shape([node.sizes.get(axis, prefix + axis) for axis in operand.axes]),
                )
                for operand in operands
            ]
            for operands in (op.inputs, op.outputs)
        )
        attributes = as_attributes(dict(node.attributes))
        made.append(ir.Node(DOMAIN, op.name, taken, attributes, outputs=given))
        inputs += taken
        outputs += given
    graph = ir.Graph(inputs, outputs, nodes=made, opset_imports={"": 18, DOMAIN: 1}, name="model")
    return ir.to_proto(ir.Model(graph, ir_version=10))


def new_library() -> Path:
    """A copy of our library, which the process loads as if it had not loaded ours before."""
    folder = Path(tempfile.mkdtemp(prefix="reformer-ops-"))
    path = folder / "libreformer_ops_ort.so"
    shutil.copy(build() / path.name, path)
    return path


def open_session(
    model: onnx.ModelProto, kernels: Path | None, library: Path | None = None
) -> onnxruntime.InferenceSession:
    """Opens a session; without `library`, it loads a new copy of the library."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # so that an allocation has the requested size
    if kernels is not None:
        options.add_session_config_entry("reformer.kernels", str(kernels))
    if library is None:
        library = new_library()
        options.register_custom_ops_library(str(library))
        shutil.rmtree(library.parent)
    else:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def attention_inputs(
    batch: int = 2, length: int = 32, prefix: str = "", sizes: Mapping[str, int] = SIZES
) -> dict[str, Array]:
    """Inputs of ChunkAttention."""
    shape = (batch, length, sizes["heads"], sizes["head_dim"])
    rng = np.random.default_rng(length)
    named: dict[str, Array] = {
        prefix + name: rng.standard_normal(shape).astype(np.float32)
        for name in ("query", "key", "value")
    }
    return {**named, f"{prefix}mask": np.ones((batch, length), np.bool_)}


def run(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, Array], names: Sequence[str] = ()
) -> list[Array]:
    """The outputs of a run. In inputs and outputs, uint16 holds the bits of bfloat16."""
    values = {}
    for name, array in inputs.items():
        if array.dtype == np.uint16:
            bits = int(ir.DataType.BFLOAT16)
            values[name] = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, bits)
        else:
            values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
    found = []
    for value in session.run_with_ort_values(list(names) or None, values):
        if value.element_type() == ir.DataType.BFLOAT16:
            count = int(np.prod(value.shape()))
            bits_there = (ctypes.c_uint16 * count).from_address(value.data_ptr())
            found.append(np.array(bits_there, np.uint16).reshape(value.shape()))
        else:
            found.append(value.numpy())
    return found


def failure(call: Callable[..., object], *arguments: object) -> str:
    """The error message of a session that cannot be created, or of a run that fails."""
    try:
        call(*arguments)
    except Exception as error:  # the exceptions of onnxruntime share no base class
        return str(error)
    raise AssertionError(f"{call.__name__} does not fail")
