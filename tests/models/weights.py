"""Random weights that make errors visible."""

from __future__ import annotations

import math

import torch


def spread(model: torch.nn.Module, seed: int = 0) -> None:
    """Give a Reformer, ours or that of Transformers, weights that make errors visible.

    With initial weights, every token attends almost equally to all others, and norms and biases
    are trivial: an error in attention or in a bias would hardly change the outputs. These weights
    spread the scores.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean, deviation = 0.0, 0.1
            if "position_embeddings" in name:
                deviation = 0.5
            elif "word_embeddings" in name:
                deviation = 1.0
            elif parameter.ndim == 2:
                deviation = (2 if "query" in name else 1) / math.sqrt(parameter.shape[1])
            elif name.endswith("norm.weight"):
                mean = 1.0
            parameter.normal_(mean, deviation, generator=generator)
