"""New models for time series, and saving them as checkpoints of Time-Series-Library."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import torch
from torch import nn

from reformer_models.checkpoints.sources.time_series_library import (
    CONFIG_FILE,
    Arguments,
    library_tensors,
)
from reformer_models.layers.attention import redraw_rotations
from reformer_models.layers.time_series import TimeSeriesReformer, TimeTables, sinusoids
from reformer_models.training.saving import write_checkpoint


def create_time_series_model(
    arguments: Arguments, *, seed: int = 0, redraws: bool = False
) -> TimeSeriesReformer:
    """A new model in train mode.

    Args:
        arguments: the arguments of Time-Series-Library's model.
        seed: the seed of the weights and of the hash rotations. The global generator does not
            change.
        redraws: True if every forward pass in train mode draws new rotations from the global
            generator, as reformer-pytorch does; eval mode uses those of `seed`.

    Raises:
        ConfigError: an argument is invalid.
    """
    model = TimeSeriesReformer(arguments.config.pinned(hash_seed=seed).config)
    redraw_rotations(model, redraws)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.xavier_uniform_(module.weight, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    if arguments.embed == "fixed" and isinstance(model.reformer.embeddings.time, TimeTables):
        for table in model.reformer.embeddings.time:
            fixed = sinusoids(*cast(torch.Tensor, table.weight).shape)
            table.weight = nn.Parameter(fixed, requires_grad=False)
    return model.train()


def save_time_series_model(
    model: TimeSeriesReformer, folder: str | Path, arguments: Arguments
) -> None:
    """Write time_series_library.json and model.safetensors, which `load_model` reads.

    The names and values of the tensors are Time-Series-Library's, so its model can load them, too.
    The rotations are not written: give `load_model` the same hash_seed.

    Raises:
        CheckpointError: the folder can't be written to, or the arguments are of another model.
    """
    tensors = library_tensors(model.state_dict(), arguments)
    described = {"model": "Reformer", **dataclasses.asdict(arguments)}
    write_checkpoint(folder, tensors, CONFIG_FILE, described)
