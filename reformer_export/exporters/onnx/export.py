"""A checkpoint becomes an artifact: `model.onnx` with everything a runtime and a reader need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import CUDA, MODEL, Manifest, record_files, write_manifest
from reformer_export.artifact.staging import stage
from reformer_export.errors import UsageError
from reformer_export.exporters.base import ExportOptions, Progress, draft_manifest
from reformer_export.exporters.checkpoint_files import copy_companions
from reformer_export.exporters.cuda.export import check_targets, write_cuda_kernels
from reformer_export.host.optional import installed_version

if TYPE_CHECKING:
    import onnx_ir as ir

    from reformer_export.source import LoadedModel

DEFAULT_OPSET = 18
OPSETS = range(18, 24)
OPS_MODES = ("auto", "portable")
WEIGHTS = f"{MODEL}_data"
TOOLS = ("reformer-export", "torch", "onnx", "onnx-ir", "onnxscript")

_LARGEST_FILE = 2**31 - 2**20  # protobuf ends at 2 GiB; the graph itself needs well under a MiB


@dataclass(frozen=True)
class OnnxOptions(ExportOptions):
    """How to export; the command line's options of the same names say what each does."""

    dtypes: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16")

    opset: int | None = None
    ops: str = "auto"
    external_data: bool = False
    cuda: Sequence[str] = ()
    """GPUs to compile kernels for, such as "sm90"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cuda:
            check_targets(self.cuda)
            if self.ops == "portable":
                raise UsageError(
                    "--cuda compiles kernels for our operators, and --ops portable leaves none: "
                    "give one of them"
                )
        if self.opset is not None and self.opset not in OPSETS:
            raise UsageError(
                f"cannot export opset {self.opset}: choose {OPSETS.start} to {OPSETS.stop - 1}"
            )
        if self.ops not in OPS_MODES:
            raise UsageError(f"unknown ops {self.ops!r}: choose one of {', '.join(OPS_MODES)}")


def export_onnx(
    checkpoint: str | Path,
    out: str | Path,
    *,
    options: OnnxOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Export without verifying; `reformer_export.to_onnx` does both.

    Raises:
        UsageError: `out` exists and is not to be replaced, or an option has no such value.
        ReformerError: anything wrong with the checkpoint. `out` is then as it was.
    """
    say = progress or (lambda message: None)
    options = options or OnnxOptions()
    with stage(out, force=force) as folder:
        say(f"loading {checkpoint}")
        loaded = options.load(checkpoint)
        write_onnx(loaded, draft_manifest(loaded, options, TOOLS), folder, options, say)
    return Artifact.open(out)


def write_onnx(
    loaded: LoadedModel, draft: Manifest, folder: Path, options: OnnxOptions, say: Progress
) -> Manifest:
    """Write an artifact with model.onnx into an empty folder; returns its manifest."""
    opset = options.opset or DEFAULT_OPSET
    copy_companions(loaded.checkpoint.directory, folder)
    say("tracing the model")
    model = _graph(loaded, draft, opset, options.ops)
    say("writing the artifact")
    save_model(model, folder, external_data=options.external_data)
    formats = {}
    if options.cuda:
        formats[CUDA] = write_cuda_kernels(folder / MODEL, folder, options.cuda, progress=say)
    manifest = dataclasses.replace(
        draft,
        opset=opset,
        ops=dataclasses.replace(draft.ops, mode=options.ops),
        formats=formats,
        files=record_files(folder),
    )
    write_manifest(folder, manifest)
    return manifest


def _graph(loaded: LoadedModel, draft: Manifest, opset: int, ops: str) -> ir.Model:
    import onnx_ir as ir

    from reformer_export.exporters.onnx import passes as onnx_passes
    from reformer_export.exporters.onnx.lint import lint
    from reformer_export.exporters.onnx.trace import trace

    signature = draft.signature
    inputs = tuple(spec.name for spec in signature.inputs)
    model = trace(
        loaded.model,
        # Long enough for several chunks, so that no branch for short sequences is taken. Nothing is
        # computed, so it may even be longer than the model's longest sequence.
        example_length=3 * loaded.config.chunk_multiple - 1,
        input_names=inputs,
        output_names=tuple(spec.name for spec in signature.outputs),
        opset=opset,
    )
    onnx_passes.tidy(
        model, inputs=inputs, axes={spec.name: spec.axes for spec in signature.outputs}
    )
    float_type = {
        "fp32": ir.DataType.FLOAT,
        "fp16": ir.DataType.FLOAT16,
        "bf16": ir.DataType.BFLOAT16,
    }[draft.dtype]
    onnx_passes.widen_bf16_outputs(model)
    if ops == "portable":
        onnx_passes.inline_bodies(model, float_type)
    else:
        onnx_passes.fuse_norms(model)
        onnx_passes.attach_bodies(model, float_type)
    model.producer_name = "reformer-export"
    model.producer_version = installed_version("reformer-export") or ""
    model.graph.name = loaded.task
    lint(model)
    return model


def save_model(model: ir.Model, folder: Path, *, external_data: bool = False) -> None:
    """Write `folder`/model.onnx, the weights beside it where asked or too many for one file."""
    import onnx_ir as ir

    size = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if external_data or size > _LARGEST_FILE:
        ir.save(model, folder / MODEL, external_data=WEIGHTS)
    else:
        ir.external_data.load_to_model(model)  # weights that it was read with lie elsewhere
        ir.save(model, folder / MODEL)
