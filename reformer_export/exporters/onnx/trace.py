"""Traces a model into an ONNX graph in which our operators are single nodes."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from reformer_export.errors import ExportError
from reformer_ops.core.spec import DOMAIN, AttributeKind, OpSpec
from reformer_ops.registry import OPS

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

_MODEL_TYPES = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]


def trace(
    model: torch.nn.Module,
    *,
    example_length: int,
    input_names: tuple[str, ...],
    output_names: tuple[str, ...],
    opset: int,
) -> ir.Model:
    """The model as ONNX with both axes of its inputs dynamic, optimised, without function bodies.

    Args:
        model: takes two int64 tensors `[batch, sequence]` and returns a dict of tensors.
        example_length: any sequence length; no trace of it is left.

    Raises:
        ExportError: torch could not trace or translate the model.
    """
    import torch

    ids = torch.zeros((2, example_length), dtype=torch.int64)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (ids, torch.ones_like(ids)),
                dynamo=True,
                dynamic_shapes=(dynamic, dynamic),
                input_names=list(input_names),
                output_names=list(output_names),
                opset_version=opset,
                optimize=True,
                verbose=False,
                custom_translation_table=_translations(),
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"torch could not turn the model into ONNX: {error}") from error
    if program is None:
        raise ExportError("torch.onnx.export returned nothing")
    return program.model


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For each torch operator of ours, what writes its ONNX node."""
    import onnxscript
    import torch

    import reformer_ops.torch_ops  # noqa: F401  (registers torch.ops.reformer)

    namespace = getattr(torch.ops, DOMAIN)
    ours = {getattr(namespace, op.torch_name).default: _node_writer(op) for op in OPS}
    # Only lengths and positions are divided in our models. They are never negative, which spares
    # the seven nodes that make a truncating Div round down.
    ours[torch.ops.aten.floor_divide.default] = onnxscript.opset18.Div
    return ours


def _node_writer(op: OpSpec) -> Callable[..., Any]:
    import onnxscript

    opset = onnxscript.values.Opset(DOMAIN, op.version)
    node = onnxscript.values.Op(opset, op.name, _schema(op))

    def write(*arguments: Any) -> Any:
        inputs = arguments[: len(op.inputs)]
        values = dict(
            zip((a.name for a in op.attributes), arguments[len(op.inputs) :], strict=True)
        )
        flags = {a.name: int(values[a.name]) for a in op.attributes if a.kind == "bool"}
        return node(*inputs, **{**values, **flags})

    return write


def _schema(op: OpSpec) -> Any:
    """The operator's declaration as the onnx package knows it."""
    from onnx.defs import OpSchema

    kinds: dict[AttributeKind, Any] = {
        "int": OpSchema.AttrType.INT,
        "bool": OpSchema.AttrType.INT,
        "ints": OpSchema.AttrType.INTS,
    }

    types = {"float": "T", "float32": "tensor(float)"}

    def parameter(operand: Any) -> Any:
        kind = types.get(operand.dtype, f"tensor({operand.dtype})")
        return OpSchema.FormalParameter(operand.name, kind)

    return OpSchema(
        op.name,
        DOMAIN,
        op.version,
        inputs=[parameter(operand) for operand in op.inputs],
        outputs=[parameter(operand) for operand in op.outputs],
        type_constraints=[("T", _MODEL_TYPES, "the model's type")],
        attributes=[OpSchema.Attribute(a.name, kinds[a.kind]) for a in op.attributes],
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's exporter about optional packages."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
