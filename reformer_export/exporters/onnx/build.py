"""Turns a torch module into an ONNX graph that is ready to be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from reformer_export.exporters.onnx import passes
from reformer_export.exporters.onnx.lint import lint
from reformer_export.exporters.onnx.trace import Axes, Example, trace
from reformer_export.host.optional import installed_version

if TYPE_CHECKING:
    import torch

_FLOAT_TYPES = {
    "fp32": ir.DataType.FLOAT,
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
}


def build(
    module: torch.nn.Module,
    examples: Sequence[Example],
    outputs: Mapping[str, Axes],
    *,
    name: str,
    dtype: str,
    ops: str,
    opset: int,
    for_tensorrt: bool = True,
    fp16_weights: bool = False,
) -> ir.Model:
    """The graph of `module`.

    Args:
        module: takes the tensors of `examples` in their order and returns a dict of tensors.
        examples: the inputs, with names and axes.
        outputs: the axes of the outputs by name.
        name: the name of the graph.
        dtype: the type of the model: "fp32", "fp16" or "bf16".
        ops: "auto": our operators are nodes with bodies; "portable": standard operators only.
        opset: the version of ONNX's operators.
        for_tensorrt: refuse nodes that TensorRT does not support; with "auto", also fuse norms.
        fp16_weights: store matrices that are exact in fp16 in that type.

    Raises:
        ExportError: torch could not trace the model, or the graph breaks a rule of `lint`.
    """
    model = trace(module, examples, output_names=list(outputs), opset=opset)
    passes.tidy(model, inputs={each.name: each.axes for each in examples}, outputs=outputs)
    passes.widen_bf16_outputs(model)
    if ops == "portable":
        passes.inline_bodies(model, _FLOAT_TYPES[dtype])
    else:
        if for_tensorrt:  # only GPUs have a kernel for fused norms
            passes.fuse_norms(model)
        passes.attach_bodies(model, _FLOAT_TYPES[dtype])
    if fp16_weights:
        passes.store_as_fp16(model)
    model.producer_name = "reformer-export"
    model.producer_version = installed_version("reformer-export") or ""
    model.graph.name = name
    lint(model, for_tensorrt=for_tensorrt)
    return model
