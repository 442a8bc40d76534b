"""New models, with the random weights that training starts from."""

from __future__ import annotations

import torch
from torch import nn

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError
from reformer_models.layers.attention import redraw_rotations
from reformer_models.layers.embeddings import AxialPositionEmbeddings
from reformer_models.layers.heads import MODELS, ReformerForTask
from reformer_models.layers.memory import Memory


def create_model(
    config: ReformerConfig, task: str = "text-generation", *, seed: int = 0
) -> ReformerForTask:
    """A new model in train mode, initialised as Hugging Face does.

    Without a `hash_seed` in the config, every forward pass in train mode draws new rotations from
    the global generator; in eval mode they are those of seed 0. If `num_buckets` is not set, it is
    chosen for the longest sequence.

    Args:
        config: the configuration of the model.
        task: one of `reformer_models.tasks.TASKS`.
        seed: the seed of the weights. The global generator does not change.

    Raises:
        ConfigError: the task is unknown, or the config does not fit it.
    """
    if task not in MODELS:
        raise ConfigError(f"unknown task {task!r}: choose one of {', '.join(MODELS)}")
    model = MODELS[task](config.pinned().config)
    redraw_rotations(model, config.hash_seed is None)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=config.initializer_range, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, Memory):
            for weight in module.parameters():
                nn.init.normal_(weight, std=config.initializer_range, generator=generator)
        if isinstance(module, AxialPositionEmbeddings):
            for weight in module.weights:
                nn.init.normal_(weight, std=config.axial_norm_std, generator=generator)
    return model.train()
