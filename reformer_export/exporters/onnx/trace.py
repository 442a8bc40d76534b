"""Traces a model into an ONNX graph in which our operators are single nodes."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reformer_export.errors import ExportError
from reformer_ops.core.spec import DOMAIN, AttributeKind, OpSpec
from reformer_ops.registry import LINEAR, OPS, QUANTISED, STEPS

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

Axes = Sequence[str | int]
"""The axes of a tensor: a name if the size is dynamic, else the size."""

_MODEL_TYPES = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]


@dataclass(frozen=True)
class Example:
    """One input of a trace: a tensor and its axes. An axis with a name has a dynamic size."""

    name: str
    tensor: torch.Tensor
    axes: Axes

    @property
    def dynamic(self) -> dict[int, Any]:
        """The dynamic axes, in the form that torch.export takes."""
        import torch

        any_size = torch.export.Dim.DYNAMIC
        return {place: any_size for place, axis in enumerate(self.axes) if isinstance(axis, str)}


def trace(
    model: torch.nn.Module,
    examples: Sequence[Example],
    *,
    output_names: Sequence[str],
    opset: int,
) -> ir.Model:
    """The model as ONNX, optimised, without function bodies.

    Args:
        model: takes the tensors of `examples` in their order and returns a dict of tensors.
        examples: of any size that has several chunks; the result does not depend on the size. Each
            needs a separate tensor: torch treats a tensor that is given twice as one input.

    Raises:
        ExportError: torch could not trace or translate the model.
    """
    import torch

    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                tuple(example.tensor for example in examples),
                dynamo=True,
                dynamic_shapes=_dynamic_shapes(model, examples),
                input_names=[example.name for example in examples],
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


def _dynamic_shapes(model: torch.nn.Module, examples: Sequence[Example]) -> tuple[Any, ...]:
    """The dynamic axes of `examples`; those of a `*tensors` parameter are one tuple."""
    shapes = [example.dynamic for example in examples]
    kinds = [each.kind for each in inspect.signature(model.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(shapes)
    first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:first], tuple(shapes[first:]))


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Functions that write the ONNX node of each torch operator of ours, and of two of torch's."""
    import onnxscript
    import torch

    import reformer_ops.torch_ops  # noqa: F401  (registers torch.ops.reformer)

    namespace = getattr(torch.ops, DOMAIN)
    traced = (*OPS, *STEPS, *QUANTISED, *LINEAR)
    ours = {getattr(namespace, op.torch_name).default: _node_writer(op) for op in traced}
    # Our models divide only lengths and positions. They are never negative, so the seven nodes that
    # make a truncating Div round down are not necessary.
    ours[torch.ops.aten.floor_divide.default] = onnxscript.opset18.Div
    ours[torch.ops.aten.sort.stable] = _stable_sort
    return ours


def _stable_sort(
    values: Any, *, stable: bool = False, dim: int = -1, descending: bool = False
) -> Any:
    """Sort an axis with TopK, which is stable: of equal values, the lower index comes first."""
    import onnxscript

    op: Any = onnxscript.opset18
    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, count, axis=dim, largest=int(descending), sorted=1)


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
    """The operator's declaration in the form of the onnx package."""
    from onnx.defs import OpSchema

    kinds: dict[AttributeKind, Any] = {
        "int": OpSchema.AttrType.INT,
        "bool": OpSchema.AttrType.INT,
        "ints": OpSchema.AttrType.INTS,
        "float": OpSchema.AttrType.FLOAT,
        "text": OpSchema.AttrType.STRING,
    }

    types = {"float": "T", "float32": "tensor(float)", "wide": "tensor(float)"}

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
    """Silence the messages of torch's exporter, for example about optional packages."""
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
