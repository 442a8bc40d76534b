"""Loads a checkpoint for a task as a ready model."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from reformer_models.checkpoints import Checkpoint, open_checkpoint
from reformer_models.checkpoints.names import BASE, HEADS, Naming, naming_of
from reformer_models.checkpoints.sources import AUTO, HUGGINGFACE
from reformer_models.config import ModelConfig, ReformerConfig
from reformer_models.errors import CheckpointError, ConfigError, shortened, some
from reformer_models.layers.attention import LSHSelfAttention, redraw_rotations
from reformer_models.layers.heads import ReformerForTask
from reformer_models.layers.models import ALL_MODELS
from reformer_models.layers.quantised import QuantisedLinear, is_quantised
from reformer_models.layers.task_model import TaskModel
from reformer_models.quantisation import quantise, stored_as_fp16
from reformer_models.tasks import ALL_TASKS, SERIES_TASKS, task_of

# Constants that old releases of transformers stored among the weights; names of the head's bias.
_CONSTANT_SUFFIXES = (
    "self_mask_value_float16",
    "self_mask_value_float32",
    "mask_value_float16",
    "mask_value_float32",
    "position_ids",
)
_BIAS = "lm_head.bias"
_BIAS_ALIAS = "lm_head.decoder.bias"


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode and its checkpoint.

    `notes` are sentences for the user: what was pinned, overridden or interpreted.
    """

    model: TaskModel
    task: str
    checkpoint: Checkpoint
    notes: tuple[str, ...]

    @property
    def config(self) -> ModelConfig:
        """The config as used: num_buckets and hash_seed are set."""
        return self.model.config

    @property
    def token_model(self) -> ReformerForTask:
        """The model, which takes tokens.

        Raises:
            ConfigError: it takes something else.
        """
        if not isinstance(self.model, ReformerForTask):
            raise ConfigError(
                f"this is for models of tokens, and {self.checkpoint.source} is for {self.task}"
            )
        return self.model

    @property
    def token_config(self) -> ReformerConfig:
        """The config of a model that takes tokens; raises ConfigError for another model."""
        return self.token_model.config

    @property
    def rotations(self) -> dict[int, torch.Tensor]:
        """The hash rotations of each LSH layer, by its index among all layers."""
        modules = self.model.named_modules()
        layers = (module for _, module in modules if isinstance(module, LSHSelfAttention))
        places = (i for i, kind in enumerate(self.config.attn_layers) if kind == "lsh")
        return {place: layer.rotations for place, layer in zip(places, layers, strict=True)}

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        return self.model.dtype

    @property
    def rounds(self) -> bool:
        """True if the model computes in less than fp32: in half precision, or with integers."""
        if any(is_quantised(module) for module in self.model.modules()):
            return True
        return self.dtype != torch.float32

    def stored_as_fp16(self) -> LoadedModel:
        """The same model with its matrices in fp16, which it converts to fp32 at each use."""
        return dataclasses.replace(self, model=stored_as_fp16(self.token_model))

    def in_fp32(self) -> LoadedModel:
        """The same weights in a model that computes in fp32."""
        model = copy.deepcopy(self.model).to(torch.float32)
        for module in model.modules():
            if isinstance(module, QuantisedLinear):
                module.rounds_input = False
        return dataclasses.replace(self, model=model)


def load_model(
    source: str | Path,
    *,
    library: str = AUTO,
    task: str = "auto",
    dtype: torch.dtype = torch.float32,
    num_buckets: int | Sequence[int] | None = None,
    hash_seed: int | None = None,
    sequence_length: int | None = None,
    revision: str | None = None,
    ignore_config_keys: Sequence[str] = (),
    ignore_weights: Sequence[str] = (),
    last_logits: bool = False,
    weights: str | None = None,
    keep: Sequence[str] = (),
) -> LoadedModel:
    """Load a Reformer from a directory or the hub, without the library that saved it.

    `checkpoints.sources` lists the libraries.

    To continue training, put `.model` in train mode. It then draws new rotations at every forward
    pass if neither the checkpoint nor `hash_seed` gives a seed, as Hugging Face does.

    Args:
        source: a directory with a configuration file and weights, or a hub id.
        library: the name of the one of `checkpoints.sources.SOURCES` that saved it; "auto" for the
            one whose configuration file is there.
        task: one of `ALL_TASKS`, or "auto" for the task of the checkpoint's architecture.
        dtype: fp32, fp16 or bf16; hash rotations stay fp32.
        num_buckets: overrides the config's.
        hash_seed: overrides the config's; 0 if neither is set.
        sequence_length: the length for which unset num_buckets are chosen, cut to the model's
            maximum length, which is also the default.
        revision: the revision of a hub id.
        ignore_config_keys: unknown keys of config.json to ignore.
        ignore_weights: names of tensors to ignore, as in the files; * matches any characters.
        last_logits: True if a causal language model returns only the logits of the last token of
            each row, `[batch, 1, vocab_size]`.
        weights: of `reformer_models.quantisation.WEIGHTS`; the model's type if None.
        keep: groups of weights that keep their type; see `reformer_models.quantisation`.

    Raises:
        CheckpointError: files are missing or damaged, or do not match the config.
        ConfigError: the config is not a known Reformer's, or the config or `last_logits` does not
            fit the task.
    """
    checkpoint = open_checkpoint(
        source, library=library, revision=revision, ignore_config_keys=ignore_config_keys
    )
    if task == "auto":
        found = task_of(checkpoint.architecture)
        if found is None:
            raise ConfigError(
                f"{source} was saved as {checkpoint.architecture!r}, which names no task we know: "
                f"choose one of {', '.join(ALL_TASKS)} with --task"
            )
        task = found
    elif task not in ALL_TASKS:
        raise ConfigError(f"unknown task {task!r}: choose auto or one of {', '.join(ALL_TASKS)}")
    # Tokens can have another head; a model of series is for one task.
    own = task_of(checkpoint.architecture)
    if task != own and (task in SERIES_TASKS or own in SERIES_TASKS):
        raise ConfigError(
            f"{source} was saved as {checkpoint.architecture}, which is not for {task}: choose "
            "another task, or leave out --task"
        )
    if last_logits and task != "text-generation":
        raise ConfigError(
            f"the logits of the last token alone are for text-generation; the task is {task}"
        )
    if sequence_length is not None:
        sequence_length = min(sequence_length, checkpoint.config.max_length)
    config, notes = checkpoint.config.pinned(
        sequence_length=sequence_length, num_buckets=num_buckets, hash_seed=hash_seed
    )
    model = ALL_MODELS[task](config)  # of its kind: checked above
    model.last_only = last_logits
    redraw_rotations(model, checkpoint.config.hash_seed is None and hash_seed is None)
    notes = checkpoint.described.notes + notes
    notes += _load_weights(model, task, checkpoint, ignore_weights)
    if weights is not None:
        if not isinstance(model, ReformerForTask):
            raise ConfigError(f"weights of fewer bits are for models of tokens, not for {task}")
        notes += quantise(model, weights, keep)
    return LoadedModel(model.to(dtype).eval(), task, checkpoint, notes)


def _load_weights(
    model: TaskModel,
    task: str,
    checkpoint: Checkpoint,
    ignore_weights: Sequence[str],
) -> tuple[str, ...]:
    """Load every tensor of `model` from the checkpoint; returns notes."""
    tensors = {
        name: tensor
        for name, tensor in checkpoint.state_dict().items()
        if not any(fnmatchcase(name, pattern) for pattern in ignore_weights)
    }
    naming = naming_of(tensors)
    state = {
        naming.standard(name): tensor
        for name, tensor in tensors.items()
        if not name.endswith(_CONSTANT_SUFFIXES)
    }
    notes = _prefix_notes(naming)
    alias = state.pop(_BIAS_ALIAS, None)
    if alias is not None:
        state.setdefault(_BIAS, alias)
    wanted = model.state_dict()
    from_huggingface = checkpoint.written_by is HUGGINGFACE
    if from_huggingface and _BIAS in wanted and "lm_head.decoder.weight" in state:
        notes += _settle_bias(state, wanted[_BIAS], checkpoint)
    _check_missing(sorted(wanted.keys() - state.keys()), task, checkpoint, naming)
    left = sorted(state.keys() - wanted.keys())
    if unexpected := [naming.in_files(name) for name in left if name.startswith(BASE)]:
        raise CheckpointError(
            f"{checkpoint.source} holds {some(unexpected)}, which a model with its config.json "
            "does not have: the config and the weights do not belong together (--ignore-weights "
            "leaves tensors out)"
        )
    # Heads of other tasks are left out silently: the user chose the task.
    if foreign := [name for name in left if not name.startswith(HEADS)]:
        notes += (f"{some(foreign)} left out: these are no tensors of a Reformer",)
    for name, parameter in wanted.items():
        found, spelled = state[name], shortened(naming.in_files(name))
        if found.shape != parameter.shape:
            raise CheckpointError(
                f"{checkpoint.source}: {spelled} is {list(found.shape)}, but its "
                f"{checkpoint.written_by.config_file} asks for "
                f"{list(parameter.shape)}: the config and the weights do not match"
            )
        if not found.is_floating_point():
            kind = str(found.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{checkpoint.source}: {spelled} is {kind}, perhaps of a quantized model: "
                "take the checkpoint it was made from"
            )
    model.load_state_dict({name: state[name] for name in wanted})
    return notes


def _prefix_notes(naming: Naming) -> tuple[str, ...]:
    if not naming.prefix:
        return ()
    return (f"the names of the weights begin with {shortened(naming.prefix)!r}, which is left out",)


def _check_missing(
    missing: Sequence[str], task: str, checkpoint: Checkpoint, naming: Naming
) -> None:
    """Raise CheckpointError if tensors are missing, only of the head or of the model itself."""
    if not missing:
        return
    found = f"{checkpoint.source} lacks {some([naming.in_files(name) for name in missing])}"
    if all(name.startswith(HEADS) for name in missing):
        raise CheckpointError(
            f"{found}, needed for {task}: it was saved as {checkpoint.architecture}; choose a task "
            "it has the head for"
        )
    raise CheckpointError(
        f"{found}: the checkpoint is incomplete or damaged, or its weights are not those of a "
        "Reformer"
    )


def _settle_bias(
    state: dict[str, torch.Tensor], wanted: torch.Tensor, checkpoint: Checkpoint
) -> tuple[str, ...]:
    """Decide if `lm_head.bias` is used: transformers 4 adds it, transformers 5 ignores it.

    transformers 5 does not write it after `resize_token_embeddings`.
    """
    bias = state.get(_BIAS)
    if bias is None:
        state[_BIAS] = torch.zeros_like(wanted)
        return ("the checkpoint has no lm_head.bias, which then is zero, as in transformers",)
    if not bias.any():
        return ()
    version = getattr(checkpoint.config, "transformers_version", None)
    if version is None or int(version.split(".")[0]) < 5:
        return (
            f"lm_head.bias is added, as transformers {version or '4'} does, which wrote this "
            "checkpoint; transformers 5 ignores it",
        )
    state[_BIAS] = torch.zeros_like(bias)
    return (
        f"lm_head.bias is not zero but left out, as transformers {version} does, which wrote this "
        "checkpoint; transformers 4 adds it",
    )
