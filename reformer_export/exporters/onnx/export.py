"""Exports model.onnx: `to_onnx`, its options, and the writer of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import CUDA, DECODER, MODEL, ONNX, FormatRecord
from reformer_export.artifact.signature import Signature, require_tokens
from reformer_export.errors import UsageError
from reformer_export.exporters.base import (
    WITH_PAST,
    ExportOptions,
    Format,
    Progress,
    example_inputs,
)
from reformer_export.exporters.cuda.export import check_targets, write_cuda_kernels
from reformer_export.exporters.pipeline import export
from reformer_export.host.optional import installed_versions
from reformer_export.source import fused

if TYPE_CHECKING:
    import onnx_ir as ir

    from reformer_export.source import LoadedModel

DEFAULT_OPSET = 18
OPSETS = range(18, 24)
WEIGHTS = f"{MODEL}_data"
_TOOLS = ("reformer-export", "torch", "onnx", "onnx-ir", "onnxscript")

_LARGEST_FILE = 2**31 - 2**20  # protobuf's limit is 2 GiB; the graph itself needs less than 1 MiB


@dataclass(frozen=True)
class OnnxOptions(ExportOptions):
    """Options of the export, named as on the command line."""

    dtypes: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16")
    ops_modes: ClassVar[tuple[str, ...]] = ("auto", "portable")
    takes_past: ClassVar[bool] = True

    ops: str = "auto"
    opset: int | None = None
    external_data: bool = False
    cuda: Sequence[str] = ()
    """GPUs to compile kernels for, such as "sm90"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.with_past and self.dtype == "bf16":
            raise UsageError(f"--task {WITH_PAST} exports fp32 or fp16, not bf16")
        if self.cuda and self.weights:
            raise UsageError(
                f"--cuda compiles kernels for weights of the model's type, not for {self.weights}: "
                "give --cuda or --weights"
            )
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


def to_onnx(
    checkpoint: str | Path,
    out: str | Path,
    *,
    source: str = "auto",
    task: str = "auto",
    dtype: str = "fp32",
    max_length: int | None = None,
    num_buckets: int | Sequence[int] | None = None,
    hash_seed: int | None = None,
    logits: str = "all",
    opset: int | None = None,
    ops: str = "auto",
    external_data: bool = False,
    cuda: Sequence[str] = (),
    weights: str | None = None,
    keep: Sequence[str] = (),
    calibration: str | Path | None = None,
    tokenizer: str = "auto",
    max_loss: float | None = None,
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
    ignore_weights: Sequence[str] = (),
    verify: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Export a checkpoint to an artifact folder, which appears only after it is verified.

    Args:
        checkpoint: a folder, or the name of a model on the Hugging Face hub.
        out: the folder to create, or an artifact of the same checkpoint to add model.onnx to.
        source: the library that saved the checkpoint: "huggingface", "lucidrains", "trax",
            "time-series-library", or "auto" for the one whose configuration file is in the folder.
        task: such as "text-generation"; "auto" takes the task that the checkpoint was made for.
            "text-generation-with-past" adds the graphs that `open_generator` runs.
        dtype: "fp32", "fp16" or "bf16", of weights and activations.
        max_length: the maximum length of a sequence, in tokens; the checkpoint's if None.
        num_buckets: hash buckets, as one or more factors; the checkpoint's if None.
        hash_seed: the seed of the hash rotations; the checkpoint's if None.
        logits: "all", or "last": text-generation returns only the logits of the last token of each
            row that attention_mask keeps, `[batch, 1, vocab_size]`. This saves memory for long
            sequences.
        opset: the version of ONNX's operators, 18 to 23; 18 if None.
        ops: "auto" (our operators as nodes with bodies in standard operators) or "portable"
            (standard operators only).
        external_data: store the weights in model.onnx_data.
        cuda: GPUs to add compiled kernels for, such as "sm90".
        weights: the type that weights are stored in: "int8", "int4" or "fp16"; the model's type if
            None.
        keep: groups of weights that keep the model's type, such as "query_key".
        calibration: a text, or a .npy file of token ids, on which the model with fewer bits is
            compared with the checkpoint; its own samples if None.
        tokenizer: how the text is encoded: "auto" or "bytes".
        max_loss: the largest relative increase of the bits for each token. More is a ParityError.
        revision: branch, tag or commit of a hub model.
        ignore_config_keys: unknown keys of config.json to ignore.
        ignore_weights: names of tensors to leave out, as written in the files; * matches any
            characters.
        verify: run the artifact in onnxruntime and compare it with the torch model and, for fp32,
            with transformers' model if transformers is installed.
        force: replace model.onnx in an existing artifact, or the whole artifact if it was made from
            another checkpoint or with other options about the model.
        progress: receives progress messages, one sentence at a time.

    Returns:
        The artifact; with `verify`, its manifest holds the parity record.

    Raises:
        ParityError: the artifact's outputs differ too much from the model's. `out` does not change.
        ReformerError: any other failure. `out` does not change.
    """
    options = OnnxOptions(
        source=source,
        task=task,
        dtype=dtype,
        max_length=max_length,
        num_buckets=num_buckets,
        hash_seed=hash_seed,
        logits=logits,
        opset=opset,
        ops=ops,
        external_data=external_data,
        cuda=cuda,
        weights=weights,
        keep=keep,
        calibration=calibration,
        tokenizer=tokenizer,
        max_loss=max_loss,
        revision=revision,
        ignore_config_keys=ignore_config_keys,
        ignore_weights=ignore_weights,
    )
    return export(FORMAT, checkpoint, out, options, verify=verify, force=force, progress=progress)


def _write(
    loaded: LoadedModel, signature: Signature, folder: Path, options: OnnxOptions, say: Progress
) -> dict[str, FormatRecord]:
    if options.cuda:
        require_tokens(signature, "--cuda")
    opset = options.opset or DEFAULT_OPSET
    say("tracing the model")
    model = _graph(loaded, signature, opset, options)
    say("writing the artifact")
    files = save_model(model, folder, external_data=options.external_data)
    tools = installed_versions(*_TOOLS)
    formats = {ONNX: FormatRecord(files, options.ops, tools, details={"opset": opset})}
    if options.with_past:
        from reformer_export.exporters.onnx.decoder import write_decoder

        say("tracing the steps of generation")
        formats[DECODER] = write_decoder(
            loaded,
            require_tokens(signature, "generation"),
            folder,
            dtype=options.dtype,
            ops=options.ops,
            opset=opset,
            fp16_weights=options.weights == "fp16",
            tools=tools,
        )
    if options.cuda:
        formats[CUDA] = write_cuda_kernels(folder / MODEL, folder, options.cuda, progress=say)
    return formats


FORMAT = Format(
    name=ONNX,
    runtime="onnxruntime",
    package="onnxruntime",
    write=_write,
    # The file must also be correct without our kernels, so the bodies of our operators are
    # verified. If our kernels are installed, the torch model that it is compared with runs them.
    verify_ops="portable",
    takes_series=True,
)


def _graph(loaded: LoadedModel, signature: Signature, opset: int, options: OnnxOptions) -> ir.Model:
    from reformer_export.exporters.onnx.build import build
    from reformer_export.exporters.onnx.trace import Example

    # Only CPUs have kernels for the fused operators.
    fuses = options.ops != "portable" and not options.cuda
    model = build(
        (fused(loaded) if fuses else loaded).model,
        [
            Example(spec.name, tensor, spec.axes)
            for spec, tensor in zip(
                signature.inputs, example_inputs(loaded, signature), strict=True
            )
        ],
        {spec.name: spec.axes for spec in signature.outputs},
        name=loaded.task,
        dtype=options.dtype,
        ops=options.ops,
        opset=opset,
        # TensorRT has no arithmetic of unsigned integers.
        for_tensorrt=options.weights is None,
        fp16_weights=options.weights == "fp16",
    )
    _describe(model, loaded, signature)
    return model


def _describe(model: ir.Model, loaded: LoadedModel, signature: Signature) -> None:
    """Write the limits of the inputs into the metadata and the doc strings of the graph.

    The graph does not check them: if a sequence is too long, a Gather or Expand node of the
    position embeddings fails.
    """
    bounds = {
        "min_length": signature.min_length,
        "max_length": signature.max_length,
        **signature.limits(),
    }
    model.metadata_props["reformer.task"] = loaded.task
    model.metadata_props.update({f"reformer.{name}": str(bound) for name, bound in bounds.items()})
    model.doc_string = (
        f"{loaded.checkpoint.architecture}, {loaded.task}. It takes {signature.lengths}; more end "
        "in an error of the position embeddings."
    )
    descriptions = signature.descriptions()
    for value in model.graph.inputs:
        value.doc_string = descriptions[str(value.name)]


def save_model(model: ir.Model, folder: Path, *, external_data: bool = False) -> tuple[str, ...]:
    """Write `folder`/model.onnx; returns the names of the files written.

    The weights go into model.onnx_data if `external_data` is True, or if one file cannot hold them.
    """
    import onnx_ir as ir

    size = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    # The tensor of a weight already has its shape. A second record of the shape breaks tools that
    # change weights, such as onnxruntime's quantizer.
    for value in model.graph.initializers.values():
        value.shape = value.type = None
    if external_data or size > _LARGEST_FILE:
        ir.save(model, folder / MODEL, external_data=WEIGHTS)
    else:
        ir.external_data.load_to_model(model)  # the weights may be in a file of another folder
        ir.save(model, folder / MODEL)
    return tuple(name for name in (MODEL, WEIGHTS) if (folder / name).exists())
