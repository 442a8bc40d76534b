"""Saves a model as a checkpoint in Hugging Face's layout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from reformer_models.config import ReformerConfig
from reformer_models.errors import CheckpointError
from reformer_models.layers.attention import LSHSelfAttention
from reformer_models.layers.heads import MODELS, FeatureExtraction, ReformerForTask
from reformer_models.tasks import TASKS


def save_checkpoint(
    model: ReformerForTask, folder: str | Path, *, config: ReformerConfig | None = None
) -> None:
    """Write `config.json` and `model.safetensors`, which Transformers and `load_model` read.

    Each file is written under a temporary name and then renamed, so neither is ever incomplete.
    `hash_seed` is null if the model draws new rotations at every forward pass in training.

    Args:
        model: the model to save.
        folder: the folder to write to; it is created if it does not exist.
        config: the configuration to write; the model's if None. It may leave out what the model
            needs to run, such as `num_buckets`.

    Raises:
        CheckpointError: the folder can't be written to.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    if isinstance(model, FeatureExtraction):
        state = {name.removeprefix("reformer."): tensor for name, tensor in state.items()}
    write_checkpoint(folder, state, "config.json", _described(model, config or model.config))


def write_checkpoint(
    folder: str | Path,
    tensors: Mapping[str, torch.Tensor],
    config_file: str,
    described: Mapping[str, object],
) -> None:
    """Write `model.safetensors`, then the configuration file, each whole or not at all.

    Raises:
        CheckpointError: the folder can't be written to.
    """
    folder = Path(folder)
    text = json.dumps(described, indent=2, sort_keys=True) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / "model.safetensors.part"
        save_file(dict(tensors), weights, metadata={"format": "pt"})
        weights.replace(folder / "model.safetensors")
        config = folder / f"{config_file}.part"
        config.write_text(text, encoding="utf-8")
        config.replace(folder / config_file)
    except OSError as error:
        raise CheckpointError(f"can't write a checkpoint to {folder}: {error}") from error


def _described(model: ReformerForTask, config: ReformerConfig) -> dict[str, object]:
    (task,) = (task for task, kind in MODELS.items() if type(model) is kind)
    config = dataclasses.replace(config, architectures=(TASKS[task],))
    if any(m.redraw for m in model.modules() if isinstance(m, LSHSelfAttention)):
        config = dataclasses.replace(config, hash_seed=None)
    raw = config.to_hf()
    raw["dtype"] = _dtype(model)
    return {name: value for name, value in raw.items() if value is not None or name == "hash_seed"}


def _dtype(model: ReformerForTask) -> str:
    parameter: torch.Tensor = next(model.parameters())
    return str(parameter.dtype).removeprefix("torch.")
