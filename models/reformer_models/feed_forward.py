"""The position-wise feed-forward, in pieces along the sequence when the config asks for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from reformer_models.activations import activation
from reformer_models.config import ReformerConfig


def in_chunks(
    function: Callable[[torch.Tensor], torch.Tensor], chunk_size: int, hidden: torch.Tensor
) -> torch.Tensor:
    """`function` over pieces of `chunk_size` positions (0: all at once), one after another.

    Positions do not see each other here, so this changes memory and not numbers. An exported graph
    has one piece: how to tile it is for the runtime to say.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if chunk_size == 0 or traced:
        # As a matrix: runtimes have one kernel for a product, its bias and its activation, but
        # only for matrices.
        return function(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
    return torch.cat([function(piece) for piece in hidden.split(chunk_size, dim=1)], dim=1)


class FeedForwardDense(nn.Module):
    """Hidden size up to feed-forward size, and the activation."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.activation = activation(config.hidden_act)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, hidden]` -> `[batch, length, feed_forward]`."""
        return self.activation(self.dense(hidden))


class FeedForwardOutput(nn.Module):
    """Feed-forward size back down to hidden size."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.feed_forward_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, feed_forward]` -> `[batch, length, hidden]`."""
        result: torch.Tensor = self.dense(hidden)
        return result


class ReformerFeedForward(nn.Module):
    """The function `g` of a reversible layer: norm, up, activation, down."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size_feed_forward
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dense = FeedForwardDense(config)
        self.output = FeedForwardOutput(config)

    def _forward_chunk(self, hidden: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.output(self.dense(self.layer_norm(hidden)))
        return result

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, hidden]` -> the same."""
        return in_chunks(self._forward_chunk, self.chunk_size, hidden)
