"""A checkpoint becomes an artifact: `model.onnx` with everything a runtime and a reader need."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.artifact import Artifact
from reformer_export.errors import UsageError
from reformer_export.exporters.companions import copy_companions
from reformer_export.manifest import (
    MODEL,
    FileRecord,
    HashingRecord,
    Manifest,
    OpsRecord,
    RotationRecord,
    SourceRecord,
    record_files,
    write_manifest,
)
from reformer_export.optional import installed_version
from reformer_export.signature import ATTENTION_MASK, INPUT_IDS, Signature, TensorSpec
from reformer_export.source import DTYPES, load_source
from reformer_export.staging import stage
from reformer_ops.registry import OPS
from reformer_ops.spec import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

    from reformer_export.source import LoadedModel

DEFAULT_OPSET = 18
OPSETS = range(18, 24)
OPS_MODES = ("auto", "portable")
EXPORT_DTYPES = ("fp32", "fp16")
WEIGHTS = f"{MODEL}_data"

_TOOLS = ("reformer-export", "torch", "onnx", "onnx-ir", "onnxscript")
_LARGEST_FILE = 2**31 - 2**20  # protobuf ends at 2 GiB; the graph itself needs well under a MiB

Progress = Callable[[str], None]


@dataclass(frozen=True)
class OnnxOptions:
    """How to export; the command line's options of the same names say what each does."""

    task: str = "auto"
    dtype: str = "fp32"
    opset: int | None = None
    max_length: int | None = None
    num_buckets: int | Sequence[int] | None = None
    hash_seed: int | None = None
    ops: str = "auto"
    external_data: bool = False
    revision: str | None = None
    ignore_config_keys: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.dtype not in EXPORT_DTYPES:
            found = "no CPU runtime has bf16 kernels" if self.dtype == "bf16" else "it is unknown"
            raise UsageError(f"cannot export {self.dtype}: {found}; choose fp32 or fp16")
        if self.opset is not None and self.opset not in OPSETS:
            raise UsageError(
                f"cannot export opset {self.opset}: choose {OPSETS.start} to {OPSETS.stop - 1}"
            )
        if self.max_length is not None and self.max_length < 1:
            raise UsageError(f"--max-length {self.max_length}: a sequence has at least one token")
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
    with stage(out, force=force) as folder:
        write_artifact(checkpoint, folder, options or OnnxOptions(), progress)
    return Artifact.open(out)


def write_artifact(
    checkpoint: str | Path, folder: Path, options: OnnxOptions, progress: Progress | None = None
) -> LoadedModel:
    """Write an artifact into an empty folder; returns the model it was made from."""
    say = progress or (lambda message: None)
    say(f"loading {checkpoint}")
    loaded = load_source(
        checkpoint,
        task=options.task,
        dtype=options.dtype,
        num_buckets=options.num_buckets,
        hash_seed=options.hash_seed,
        max_length=options.max_length,
        revision=options.revision,
        ignore_config_keys=options.ignore_config_keys,
    )
    signature = signature_of(loaded, options)
    opset = options.opset or DEFAULT_OPSET
    copy_companions(loaded.checkpoint.directory, folder)
    say("tracing the model")
    model = _graph(loaded, signature, opset, options.ops)
    say("writing the artifact")
    save_model(model, folder, external_data=options.external_data)
    write_manifest(folder, _manifest(loaded, signature, opset, options, folder))
    return loaded


def signature_of(loaded: LoadedModel, options: OnnxOptions) -> Signature:
    """Inputs, outputs and limits of the exported model.

    Raises:
        UsageError: more tokens asked for than the model has positions.
    """
    config = loaded.config
    max_length = config.max_length if options.max_length is None else options.max_length
    if max_length > config.max_length:
        raise UsageError(
            f"--max-length {max_length}: this model takes 1 to {config.max_length} tokens"
        )
    sizes = {
        "2 * hidden_size": 2 * config.hidden_size,
        "vocab_size": config.vocab_size,
        "num_labels": config.num_labels,
    }
    dtype = DTYPES[options.dtype]
    return Signature(
        inputs=tuple(
            TensorSpec(name, "int64", ("batch", "sequence")) for name in (INPUT_IDS, ATTENTION_MASK)
        ),
        outputs=tuple(
            TensorSpec(name, dtype, tuple(sizes.get(axis, axis) for axis in axes))
            for name, axes in loaded.model.output_axes.items()
        ),
        vocab_size=config.vocab_size,
        min_length=1,
        max_length=max_length,
    )


def _graph(loaded: LoadedModel, signature: Signature, opset: int, ops: str) -> ir.Model:
    import onnx_ir as ir

    from reformer_export.exporters import onnx_passes
    from reformer_export.exporters.onnx_lint import lint
    from reformer_export.exporters.onnx_trace import trace

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
    float_type = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16}[
        signature.outputs[0].dtype
    ]
    if ops == "portable":
        onnx_passes.inline_bodies(model, float_type)
    else:
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
        ir.save(model, folder / MODEL)


def _manifest(
    loaded: LoadedModel, signature: Signature, opset: int, options: OnnxOptions, folder: Path
) -> Manifest:
    config = loaded.config
    return Manifest(
        task=loaded.task,
        architecture=loaded.checkpoint.architecture,
        dtype=options.dtype,
        opset=opset,
        ops=OpsRecord(options.ops, DOMAIN, {op.name: op.version for op in OPS}),
        signature=signature,
        hashing=HashingRecord(
            num_buckets=config.num_buckets or (),  # none without LSH layers
            num_hashes=config.num_hashes,
            hash_seed=config.hash_seed,
            notes=loaded.notes,
            rotations=tuple(_rotations(loaded)),
        ),
        source=SourceRecord(
            name=loaded.checkpoint.source,
            revision=loaded.checkpoint.revision,
            files={path.name: FileRecord.of(path) for path in loaded.checkpoint.files},
            ignored_keys=tuple(options.ignore_config_keys),
        ),
        files=record_files(folder),
        tools={tool: version for tool in _TOOLS if (version := installed_version(tool))},
    )


def _rotations(loaded: LoadedModel) -> Iterator[RotationRecord]:
    for layer, tensor in loaded.rotations.items():
        digest = hashlib.sha256(tensor.numpy().astype("<f4").tobytes()).hexdigest()
        yield RotationRecord(layer, tuple(tensor.shape), digest)
