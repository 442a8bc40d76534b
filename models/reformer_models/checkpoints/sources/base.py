"""What a source of checkpoints offers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reformer_models.checkpoints.layout import WEIGHT_FILES
from reformer_models.config import ReformerConfig, SeriesConfig

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Described:
    """What a source reads from the configuration file of a checkpoint.

    Attributes:
        config: The configuration of our model.
        architecture: Hugging Face's class for the same task, or our name if it has none; None if
            the file does not say it.
        translated: Gives the tensors of the files the names and values that Hugging Face's model
            would have, or our model if there is no such class. It raises `CheckpointError` if they
            do not fit the configuration.
        notes: Sentences for the user: what was recognised and what was chosen.
    """

    config: ReformerConfig | SeriesConfig
    architecture: str | None
    translated: Callable[[Tensors], Tensors]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A library that saves checkpoints.

    Attributes:
        name: How the user chooses it.
        config_file: The file by which a checkpoint is recognised.
        describe: Reads the contents of that file; the second argument are unknown keys to accept.
            It raises `ConfigError` for what our model can't express.
        weight_files: The names that its file of weights may have, in the order they are looked for.
    """

    name: str
    config_file: str
    describe: Callable[[Mapping[str, object], Collection[str]], Described]
    weight_files: tuple[str, ...] = WEIGHT_FILES
