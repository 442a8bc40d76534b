"""The position-wise feed-forward, in pieces along the sequence if the config says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from reformer_models.config import ReformerConfig
from reformer_models.layers.activations import activation
from reformer_models.layers.dropout import Dropout
from reformer_models.layers.linear import Linear, is_plain
from reformer_models.layers.norms import sublayer_norm
from reformer_models.layers.quantised import is_quantised
from reformer_ops.training.choice import serves
from reformer_ops.training.feed_forward.torch_op import (
    FeedForwardWeights,
    feed_forward,
    feed_forward_with_gradients,
)


def is_traced() -> bool:
    """True while tracing or compiling."""
    traced: bool = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    return traced


def in_chunks(
    function: Callable[..., torch.Tensor], chunk_size: int, *tensors: torch.Tensor
) -> torch.Tensor:
    """`function` over pieces of `chunk_size` positions (0: all at once), one after another.

    Tensors are `[batch, length, ..]`. Positions are independent here, so this changes the use of
    memory and not the results. If gradients are needed, each piece is computed again in the
    backward pass. An exported graph has one piece: the runtime decides how to tile it.
    """
    if chunk_size == 0 or is_traced():
        # As a matrix: runtimes fuse a product, its bias and its activation into one kernel, but
        # only for matrices.
        rows = function(*(tensor.flatten(0, 1) for tensor in tensors))
        return rows.unflatten(0, tensors[0].shape[:2])
    pieces = zip(*(tensor.split(chunk_size, dim=1) for tensor in tensors), strict=True)
    if torch.is_grad_enabled():
        function = partial(checkpoint, function, use_reentrant=False)
    return torch.cat([function(*piece) for piece in pieces], dim=1)


class FeedForwardDense(nn.Module):
    """Hidden size up to feed-forward size, and the activation.

    If the config says `feed_forward_gated`, the linear layer has twice the size: the activation of
    its first half is multiplied by its second half.
    """

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.gated = config.feed_forward_gated
        halves = 2 if self.gated else 1
        self.dense = Linear(config.hidden_size, halves * config.feed_forward_size)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.activation = activation(config.hidden_act)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, hidden]` -> `[batch, length, feed_forward]`."""
        features = self.dropout(self.dense(hidden))
        if not self.gated:
            return self.activation(features)
        active, gate = features.chunk(2, dim=-1)
        return self.activation(active) * gate


class FeedForwardOutput(nn.Module):
    """Feed-forward size back down to hidden size."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.dense = Linear(config.feed_forward_size, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, feed_forward]` -> `[batch, length, hidden]`."""
        result: torch.Tensor = self.dropout(self.dense(hidden))
        return result


class ReformerFeedForward(nn.Module):
    """The function `g` of a reversible layer: norm, up, activation, down."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size_feed_forward
        self.layer_norm = sublayer_norm(config)
        self.dense = FeedForwardDense(config)
        self.output = FeedForwardOutput(config)
        self.hidden_act = config.hidden_act

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, hidden]` -> the same."""
        if self._is_one_kernel(hidden):  # the kernel itself works block by block
            return feed_forward(
                hidden, self._weights, epsilon=self._epsilon, dropout=self.dense.dropout.p
            )
        if is_quantised(self.dense.dense):
            return self.of_positions(hidden)
        if is_traced():  # the norm follows the sum before it, so both can become one node
            return in_chunks(self._after_norm, self.chunk_size, self.layer_norm(hidden))
        return in_chunks(self.of_positions, self.chunk_size, hidden)

    def add(self, stream: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The sum of a stream and the feed-forward of the other one, `[batch, length, hidden]`."""
        result: torch.Tensor = stream + self(hidden)
        return result

    def of_positions(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[.., hidden]` -> the same, all at once."""
        return self._after_norm(self.layer_norm(hidden))

    def with_gradients(
        self, hidden: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]] | None:
        """The result of `forward`, and the gradients of `hidden` and of all parameters.

        `gradient` is the gradient of the result. None if no kernel computes both at once.
        """
        if not self._is_one_kernel(hidden):
            return None
        weights = self._weights
        if not all(weight.requires_grad for weight in weights):
            return None
        return feed_forward_with_gradients(
            hidden,
            weights,
            gradient,
            epsilon=self._epsilon,
            dropout=self.dense.dropout.p,
        )

    def _after_norm(self, normed: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.output(self.dense(normed))
        return result

    def _is_one_kernel(self, hidden: torch.Tensor) -> bool:
        up, down = self.dense, self.output
        return (
            self.training
            and self.hidden_act == "relu"
            and not self.dense.gated
            and isinstance(self.layer_norm, nn.LayerNorm)
            and is_plain(self.layer_norm, up, up.dense, up.dropout, down, down.dense, down.dropout)
            and up.dropout.p == down.dropout.p < 1
            and serves(hidden, up.dense.weight, down.dense.weight)
        )

    @property
    def _epsilon(self) -> float:
        return cast(nn.LayerNorm, self.layer_norm).eps

    @property
    def _weights(self) -> FeedForwardWeights:
        norm, up, down = cast(nn.LayerNorm, self.layer_norm), self.dense.dense, self.output.dense
        return FeedForwardWeights(
            norm.weight, norm.bias, up.weight, up.bias, down.weight, down.bias
        )
