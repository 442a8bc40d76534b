"""The only module that imports `reformer_models`: loading checkpoints as models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.artifact.manifest import FileRecord
from reformer_export.errors import ArtifactError, UsageError
from reformer_models.checkpoints.json_file import check_not_pointer
from reformer_models.config import ReformerConfig, SeriesConfig
from reformer_models.tasks import SERIES_TASKS, TASKS

if TYPE_CHECKING:
    import torch

    from reformer_export.artifact import Artifact
    from reformer_export.artifact.manifest import Manifest
    from reformer_models.checkpoints import Checkpoint
    from reformer_models.layers.decoding import CacheTensor, DecodeStep, Prefill
    from reformer_models.layers.hashing import BucketTrace
    from reformer_models.layers.heads import ReformerForTask
    from reformer_models.loading import LoadedModel

__all__ = [
    "DTYPES",
    "SERIES_TASKS",
    "TASKS",
    "CacheTensor",
    "Checkpoint",
    "LoadedModel",
    "ReformerConfig",
    "SeriesConfig",
    "artifact_config",
    "check_not_pointer",
    "create_model",
    "decoder_modules",
    "fused",
    "language_model_loss",
    "load_original",
    "load_source",
    "new_trace",
    "save_checkpoint",
]

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Values of `--dtype` -> the names in NumPy, torch and ONNX."""


def load_source(
    checkpoint: str | Path,
    *,
    library: str = "auto",
    task: str = "auto",
    dtype: str = "fp32",
    num_buckets: int | Sequence[int] | None = None,
    hash_seed: int | None = None,
    max_length: int | None = None,
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
    ignore_weights: Sequence[str] = (),
    last_logits: bool = False,
    weights: str | None = None,
    keep: Sequence[str] = (),
) -> LoadedModel:
    """Load a checkpoint for a task, in eval mode; see `reformer_models.loading.load_model`.

    Raises:
        UsageError: an unknown dtype.
        ReformerError: the checkpoint cannot be loaded; the message is one line.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    import torch

    from reformer_models.loading import load_model

    return load_model(
        checkpoint,
        library=library,
        task=task,
        dtype=getattr(torch, DTYPES[dtype]),
        num_buckets=num_buckets,
        hash_seed=hash_seed,
        sequence_length=max_length,
        revision=revision,
        ignore_config_keys=ignore_config_keys,
        ignore_weights=ignore_weights,
        last_logits=last_logits,
        weights=weights,
        keep=keep,
    )


def fused(loaded: LoadedModel) -> LoadedModel:
    """The same model with linear layers fused with adjacent operations, for inference on CPUs; see
    `reformer_models.fusing.fuse_linear`."""
    from reformer_models.fusing import fuse_linear

    return dataclasses.replace(loaded, model=fuse_linear(loaded.model))


def decoder_modules(
    loaded: LoadedModel, *, in_place: bool = False
) -> tuple[Prefill, DecodeStep, tuple[CacheTensor, ...]]:
    """The modules that generate (one for prompts, one for a next token) and their cache tensors.

    With `in_place` a step writes into the cache that it receives.

    Raises:
        UsageError: the model's task is not text-generation.
    """
    from reformer_models.layers.decoding import DecodeStep, Prefill, cache_tensors
    from reformer_models.layers.heads import TextGeneration

    if not isinstance(loaded.model, TextGeneration):
        raise UsageError(f"only text-generation generates; this model is for {loaded.task}")
    model = loaded.model
    step = DecodeStep(model, in_place=in_place).eval()
    return Prefill(model).eval(), step, cache_tensors(model.config)


def load_original(
    manifest: Manifest, checkpoint: str | Path | None = None, *, option: str = "--against"
) -> LoadedModel:
    """Load the checkpoint that an artifact was exported from, with the settings in its manifest.

    Args:
        manifest: the manifest of the artifact.
        checkpoint: where the checkpoint is now. By default, it is where it was at the export, and
            its files must be unchanged.
        option: the command-line option for `checkpoint`, for error messages.

    Raises:
        ArtifactError: the checkpoint is missing or has changed.
        ReformerError: the checkpoint cannot be loaded for another reason.
    """
    source = manifest.source.name if checkpoint is None else checkpoint
    gone = manifest.source.revision is None and not Path(source).expanduser().exists()
    if checkpoint is None and gone:
        raise ArtifactError(
            f"the artifact was exported from {source}, which is not there any more: "
            f"give the checkpoint with {option}"
        )
    loaded = load_source(
        source,
        library=manifest.source.library if checkpoint is None else "auto",
        task=manifest.task,
        dtype=manifest.dtype,
        num_buckets=manifest.hashing.num_buckets or None,  # none without LSH layers
        hash_seed=manifest.hashing.hash_seed,
        revision=manifest.source.revision if checkpoint is None else None,
        ignore_config_keys=manifest.source.ignored_keys,
        ignore_weights=manifest.source.ignored_weights,
        last_logits=manifest.signature.last_logits,
        weights=manifest.weights.type if manifest.weights else None,
        keep=manifest.weights.kept if manifest.weights else (),
    )
    for path in loaded.checkpoint.files if checkpoint is None else ():
        if FileRecord.of(path) != manifest.source.files.get(path.name):
            raise ArtifactError(
                f"{path} has changed since the export: export again, or name the checkpoint "
                f"with {option}"
            )
    return loaded


def artifact_config(artifact: Artifact) -> ReformerConfig:
    """The config of the model in an artifact, with the hashing settings of its manifest.

    Raises:
        ArtifactError: its config.json is missing or is not JSON.
        ConfigError: its config.json is not a Reformer's.
    """
    path = artifact.file("config.json")
    if path is None:
        raise ArtifactError(f"{artifact.path} has no config.json: export the model again")
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot read {path} ({error}): export the model again") from error
    manifest = artifact.manifest
    config = ReformerConfig.from_hf(raw, ignore_keys=manifest.source.ignored_keys)
    if "lsh" not in config.attn_layers:
        return config
    hashing = manifest.hashing
    return config.pinned(num_buckets=hashing.num_buckets, hash_seed=hashing.hash_seed).config


def new_trace(forced: Sequence[torch.Tensor | None] | None = None) -> BucketTrace:
    """A trace that records the buckets of one forward pass, or replaces them by `forced` ones."""
    from reformer_models.layers.hashing import BucketTrace

    return BucketTrace(forced)


def create_model(
    config: ReformerConfig, task: str = "text-generation", *, seed: int = 0
) -> ReformerForTask:
    """A new model for training; see `reformer_models.training.creating.create_model`."""
    from reformer_models.training import creating

    return creating.create_model(config, task, seed=seed)


def save_checkpoint(
    model: ReformerForTask, folder: str | Path, *, config: ReformerConfig | None = None
) -> None:
    """Write a checkpoint that `load_source` reads; see `reformer_models.training.saving`."""
    from reformer_models.training import saving

    saving.save_checkpoint(model, folder, config=config)


def language_model_loss(model: ReformerForTask, input_ids: torch.Tensor) -> torch.Tensor:
    """The mean loss of predicting the next token; see `reformer_models.training.losses`."""
    from reformer_models.training import losses

    return losses.language_model_loss(model, input_ids)
