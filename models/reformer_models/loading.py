"""A checkpoint and a task in, the ready model out."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from reformer_models.checkpoints import Checkpoint, open_checkpoint
from reformer_models.config import ReformerConfig
from reformer_models.errors import CheckpointError, ConfigError
from reformer_models.layers import heads
from reformer_models.layers.attention import LSHSelfAttention, redraw_rotations
from reformer_models.tasks import TASKS, task_of

# Constants that old transformers stored among the weights, and the bias under its second name.
_CONSTANT_SUFFIXES = (
    "self_mask_value_float16",
    "self_mask_value_float32",
    "mask_value_float16",
    "mask_value_float32",
    "position_ids",
)
_BIAS_ALIAS = "lm_head.decoder.bias"


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode and where it came from.

    `notes` are sentences a user should see: what was pinned, overridden or interpreted.
    """

    model: heads.ReformerForTask
    task: str
    checkpoint: Checkpoint
    notes: tuple[str, ...]

    @property
    def config(self) -> ReformerConfig:
        """The config as used: num_buckets and hash_seed are set."""
        return self.model.config

    @property
    def rotations(self) -> dict[int, torch.Tensor]:
        """The hash rotations of each LSH layer, by its place among all layers."""
        modules = self.model.named_modules()
        layers = (module for _, module in modules if isinstance(module, LSHSelfAttention))
        places = (i for i, kind in enumerate(self.config.attn_layers) if kind == "lsh")
        return {place: layer.rotations for place, layer in zip(places, layers, strict=True)}

    def in_fp32(self) -> LoadedModel:
        """The same weights, computed with in fp32."""
        return dataclasses.replace(self, model=copy.deepcopy(self.model).to(torch.float32))


def load_model(
    source: str | Path,
    *,
    task: str = "auto",
    dtype: torch.dtype = torch.float32,
    num_buckets: int | Sequence[int] | None = None,
    hash_seed: int | None = None,
    sequence_length: int | None = None,
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
) -> LoadedModel:
    """Load a Hugging Face Reformer from a directory or the hub, without transformers.

    To go on training, put `.model` in train mode. It then draws rotations at every forward pass
    if neither the checkpoint nor `hash_seed` has a seed, as Hugging Face does.

    Args:
        source: a directory with config.json and weights, or a hub id.
        task: one of `TASKS`, or "auto" for what the checkpoint was saved as.
        dtype: fp32, fp16 or bf16; hash rotations stay fp32.
        num_buckets: overrides the config's.
        hash_seed: overrides the config's; 0 where neither is set.
        sequence_length: the length that unset num_buckets are chosen for, within what the model
            takes; its longest when left out.
        revision: of a hub id.
        ignore_config_keys: unknown keys of config.json to put up with.

    Raises:
        CheckpointError: files missing, damaged, or not fitting the config.
        ConfigError: the config is not a Reformer's we know, or does not fit the task.
    """
    checkpoint = open_checkpoint(source, revision=revision, ignore_config_keys=ignore_config_keys)
    if task == "auto":
        found = task_of(checkpoint.architecture)
        if found is None:
            raise ConfigError(
                f"{source} was saved as {checkpoint.architecture!r}, which names no task we know: "
                f"choose one of {', '.join(TASKS)} with --task"
            )
        task = found
    elif task not in TASKS:
        raise ConfigError(f"unknown task {task!r}: choose auto or one of {', '.join(TASKS)}")
    if sequence_length is not None:
        sequence_length = min(sequence_length, checkpoint.config.max_length)
    config, notes = checkpoint.config.pinned(
        sequence_length=sequence_length, num_buckets=num_buckets, hash_seed=hash_seed
    )
    model = heads.MODELS[task](config)
    redraw_rotations(model, checkpoint.config.hash_seed is None and hash_seed is None)
    notes += _load_weights(model, task, checkpoint)
    return LoadedModel(model.to(dtype).eval(), task, checkpoint, notes)


def _load_weights(
    model: heads.ReformerForTask, task: str, checkpoint: Checkpoint
) -> tuple[str, ...]:
    """Fill `model` from the checkpoint, to the last tensor; returns notes."""
    state = {
        name if _has_head_prefix(name) else f"reformer.{name}": tensor
        for name, tensor in checkpoint.state_dict().items()
        if not name.endswith(_CONSTANT_SUFFIXES)
    }
    alias = state.pop(_BIAS_ALIAS, None)
    if alias is not None:
        state.setdefault("lm_head.bias", alias)
    wanted = model.state_dict()
    notes = _settle_bias(state, checkpoint) if "lm_head.bias" in wanted else ()
    missing = sorted(wanted.keys() - state.keys())
    if missing:
        raise CheckpointError(
            f"{checkpoint.source} lacks {_some(missing)}, needed for {task}: "
            f"it was saved as {checkpoint.architecture}; choose a task it has the head for"
        )
    # Heads of other tasks may stay behind; anything else unknown means a model we do not know.
    unexpected = sorted(name for name in state.keys() - wanted.keys() if _in_base(name))
    if unexpected:
        raise CheckpointError(
            f"{checkpoint.source} holds {_some(unexpected)}, which its config.json has no place "
            f"for: the config and the weights do not belong together"
        )
    for name, parameter in wanted.items():
        if state[name].shape != parameter.shape:
            raise CheckpointError(
                f"{checkpoint.source}: {name} is {list(state[name].shape)}, but its config.json "
                f"asks for {list(parameter.shape)}: the config and the weights do not match"
            )
        if not state[name].is_floating_point():
            kind = str(state[name].dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{checkpoint.source}: {name} is {kind}, perhaps of a quantized model: "
                "take the checkpoint it was made from"
            )
    model.load_state_dict({name: state[name] for name in wanted})
    return notes


def _settle_bias(state: dict[str, torch.Tensor], checkpoint: Checkpoint) -> tuple[str, ...]:
    """Whether `lm_head.bias` counts: transformers adds it up to 4.x and ignores it from 5.0 on."""
    bias = state.get("lm_head.bias")
    if bias is None or not bias.any():
        return ()
    version = checkpoint.config.transformers_version
    if version is None or int(version.split(".")[0]) < 5:
        return (
            f"lm_head.bias is added, as transformers {version or '4'} does, which wrote this "
            "checkpoint; transformers 5 ignores it",
        )
    state["lm_head.bias"] = torch.zeros_like(bias)
    return (
        f"lm_head.bias is not zero but left out, as transformers {version} does, which wrote this "
        "checkpoint; transformers 4 adds it",
    )


def _has_head_prefix(name: str) -> bool:
    return name.startswith(("reformer.", "lm_head.", "classifier.", "qa_outputs."))


def _in_base(name: str) -> bool:
    return name.startswith("reformer.")


def _some(names: Sequence[str], shown: int = 3) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
