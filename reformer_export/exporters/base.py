"""The declaration of a format, and the parts that all formats share: options, signature,
manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from reformer_export.artifact.manifest import (
    FileRecord,
    FormatRecord,
    HashingRecord,
    Manifest,
    OpsRecord,
    RotationRecord,
    SourceRecord,
    WeightsRecord,
)
from reformer_export.artifact.signature import (
    SeriesSignature,
    Signature,
    TensorSpec,
    TokenSignature,
)
from reformer_export.errors import UsageError
from reformer_export.source import (
    DTYPES,
    SERIES_TASKS,
    SeriesConfig,
    decoder_modules,
    load_source,
)
from reformer_ops.core.native import Choice
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.registry import LINEAR, OPS, QUANTISED

if TYPE_CHECKING:
    import torch

    from reformer_export.source import Checkpoint, LoadedModel

WITH_PAST = "text-generation-with-past"
"""The task text-generation with additional graphs that generate with a cache."""

Progress = Callable[[str], None]
"""Receives progress messages, one sentence at a time."""


@dataclass(frozen=True)
class Format:
    """A format that a checkpoint is exported to.

    Attributes:
        name: the name of the format in manifests and for users.
        runtime: the runtime that verifies the export.
        package: the Python package that this runtime needs.
        verify_ops: the choice of operators for the verification.
        takes_series: True if the format has models that take series of numbers.
        write: writes the files of the format into a folder that already holds the checkpoint's
            small files; returns a record of each format it has written, by name. Its arguments are
            the loaded checkpoint, the signature, the folder, the format's options, and `Progress`.
    """

    name: str
    runtime: str
    package: str
    write: Callable[[LoadedModel, Signature, Path, Any, Progress], Mapping[str, FormatRecord]]
    verify_ops: Choice = "auto"
    takes_series: bool = False

    def check_task(self, task: str) -> None:
        """Raise UsageError if the format has no models for a task."""
        if task in SERIES_TASKS and not self.takes_series:
            raise UsageError(
                f"to-{self.name} is for models of tokens, and this model is for {task}: choose "
                "to-onnx or to-torchscript"
            )


@dataclass(frozen=True)
class ExportOptions:
    """Options about the checkpoint, named as on the command line."""

    dtypes: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    """Types that the format is exported in."""
    ops_modes: ClassVar[tuple[str, ...]] = ("native", "portable")
    """Kinds of operators that the format is exported with."""
    takes_past: ClassVar[bool] = False
    """True if the format has graphs that generate with a cache."""

    source: str = "auto"
    task: str = "auto"
    dtype: str = "fp32"
    ops: str = "native"
    max_length: int | None = None
    num_buckets: int | Sequence[int] | None = None
    hash_seed: int | None = None
    logits: str = "all"
    revision: str | None = None
    ignore_config_keys: Sequence[str] = ()
    ignore_weights: Sequence[str] = ()
    weights: str | None = None
    keep: Sequence[str] = ()
    calibration: str | Path | None = None
    tokenizer: str = "auto"
    max_loss: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in self.dtypes:
            kinds = {"bf16": "that is for to-onnx alone", "fp16": "this format has fp32 only"}
            found = kinds.get(self.dtype, "it is unknown")
            raise UsageError(
                f"cannot export {self.dtype}: {found}; choose {' or '.join(self.dtypes)}"
            )
        if self.ops not in self.ops_modes:
            raise UsageError(f"unknown ops {self.ops!r}: choose one of {', '.join(self.ops_modes)}")
        if self.logits not in ("all", "last"):
            raise UsageError(f"unknown logits {self.logits!r}: choose all or last")
        if self.weights is None:
            self._refuse_without_weights()
        if self.weights == "fp16" and self.dtype != "fp32":
            raise UsageError(
                f"--weights fp16 is for --dtype fp32; with {self.dtype} all weights have 16 bits "
                "already: leave it out"
            )
        if self.with_past and not self.takes_past:
            raise UsageError(
                f"--task {WITH_PAST} is for to-onnx and to-torchscript: give text-generation"
            )
        if self.max_length is not None and self.max_length < 1:
            raise UsageError(f"--max-length {self.max_length}: a sequence has at least one token")

    def _refuse_without_weights(self) -> None:
        given = {
            "--keep": self.keep,
            "--calibration": self.calibration is not None,
            "--max-loss": self.max_loss is not None,
        }
        for option, is_given in given.items():
            if is_given:
                raise UsageError(f"{option} is for weights of fewer bits: give --weights with it")

    @property
    def with_past(self) -> bool:
        """True if the export includes graphs that generate with a cache."""
        return self.task == WITH_PAST

    def load(self, checkpoint: str | Path) -> LoadedModel:
        """Load the checkpoint with these options; raises the errors of `load_source`."""
        loaded = load_source(
            checkpoint,
            library=self.source,
            task="text-generation" if self.with_past else self.task,
            dtype=self.dtype,
            num_buckets=self.num_buckets,
            hash_seed=self.hash_seed,
            max_length=self.max_length,
            revision=self.revision,
            ignore_config_keys=self.ignore_config_keys,
            ignore_weights=self.ignore_weights,
            last_logits=self.logits == "last",
            weights=self.weights,
            keep=self.keep,
        )
        if self.with_past:
            decoder_modules(loaded)  # refuses what cannot have a cache before the export begins
        return loaded


def signature_of(loaded: LoadedModel, options: ExportOptions) -> Signature:
    """Inputs, outputs and limits of the exported model.

    Raises:
        UsageError: `options.max_length` is larger than the model's maximum length.
    """
    config = loaded.config
    max_length = config.max_length if options.max_length is None else options.max_length
    if max_length > config.max_length:
        unit = (SeriesSignature if isinstance(config, SeriesConfig) else TokenSignature).unit
        raise UsageError(
            f"--max-length {max_length}: this model takes 1 to {config.max_length} {unit}"
        )
    # NumPy has no bf16, so a bf16 model returns its outputs in fp32.
    dtype = "float32" if options.dtype == "bf16" else DTYPES[options.dtype]
    outputs = tuple(
        TensorSpec(name, dtype, axes) for name, axes in loaded.model.output_axes.items()
    )
    if isinstance(config, SeriesConfig):
        return SeriesSignature.of(
            channels=config.channels,
            time_features=config.time_features,
            outputs=outputs,
            horizon=config.horizon,
            time_tables=config.time_tables,
            max_length=max_length,
        )
    vocab_size = loaded.token_config.vocab_size
    return TokenSignature.of(vocab_size=vocab_size, outputs=outputs, max_length=max_length)


def example_inputs(loaded: LoadedModel, signature: Signature) -> tuple[torch.Tensor, ...]:
    """Inputs to trace a model with, in the signature's order.

    They are long enough for several chunks, so that no branch for short sequences is taken. Nothing
    is computed, so they may even exceed the model's maximum length.
    """
    import torch

    length = 3 * loaded.config.chunk_multiple - 1
    inputs = signature.random_inputs(np.random.default_rng(0), 2, length)
    return tuple(
        torch.from_numpy(inputs[spec.name].astype(spec.dtype)) for spec in signature.inputs
    )


def draft_manifest(loaded: LoadedModel, options: ExportOptions) -> Manifest:
    """The manifest of a model, before any of its files is written.

    Raises:
        UsageError: `options.max_length` is larger than the model's maximum length.
    """
    config = loaded.config
    hashes = "lsh" in config.attn_layers
    weights = WeightsRecord(options.weights, tuple(options.keep)) if options.weights else None
    return Manifest(
        task=loaded.task,
        architecture=loaded.checkpoint.architecture,
        dtype=options.dtype,
        # Without STEPS (in the decoder's record) and FUSED (its kernels come with the artifact).
        ops=OpsRecord(DOMAIN, {op.name: op.version for op in _operators(weights)}),
        signature=signature_of(loaded, options),
        hashing=HashingRecord(
            num_buckets=(config.num_buckets or ()) if hashes else (),
            num_hashes=config.num_hashes,
            hash_seed=config.hash_seed if hashes else None,
            notes=loaded.notes,
            rotations=tuple(_rotations(loaded)),
        ),
        source=SourceRecord(
            name=_where(loaded.checkpoint),
            revision=loaded.checkpoint.revision,
            files={path.name: FileRecord.of(path) for path in loaded.checkpoint.files},
            ignored_keys=tuple(options.ignore_config_keys),
            ignored_weights=tuple(options.ignore_weights),
            library=loaded.checkpoint.written_by.name,
        ),
        files={},
        weights=weights,
    )


def _operators(weights: WeightsRecord | None) -> tuple[OpSpec, ...]:
    return (*OPS, *LINEAR, *(QUANTISED if weights and weights.rounds_inputs else ()))


def _where(checkpoint: Checkpoint) -> str:
    """The hub id, or the absolute path of the folder, valid from any working directory."""
    if checkpoint.revision is not None:
        return checkpoint.source
    return str(Path(checkpoint.source).expanduser().absolute())


def _rotations(loaded: LoadedModel) -> Iterator[RotationRecord]:
    for layer, tensor in loaded.rotations.items():
        digest = hashlib.sha256(tensor.numpy().astype("<f4").tobytes()).hexdigest()
        yield RotationRecord(layer, tuple(tensor.shape), digest)
