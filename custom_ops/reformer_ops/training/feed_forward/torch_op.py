"""The feed-forward half of a layer, one block of positions at a time, for training on the CPU.

The tensor between the two linear layers is never stored for a whole sequence; the backward pass
computes it again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from reformer_ops.core.dropout_masks import draw_seed


class FeedForwardWeights(NamedTuple):
    """Weights of the norm, `[hidden]`, and of the two linear layers."""

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    up_weight: torch.Tensor
    """`[feed_forward, hidden]`"""
    up_bias: torch.Tensor
    down_weight: torch.Tensor
    """`[hidden, feed_forward]`"""
    down_bias: torch.Tensor


def feed_forward(
    input: torch.Tensor, weights: FeedForwardWeights, *, epsilon: float, dropout: float
) -> torch.Tensor:
    """Layer norm, linear, dropout, ReLU, linear, dropout: `[.., hidden]` fp32 -> the same.

    Only for inputs and weights for which `serves` is true. Results do not depend on the number of
    threads.

    Args:
        input: `[.., hidden]`.
        weights: the weights of the norm and of the linear layers.
        epsilon: the epsilon of the norm.
        dropout: the share to drop, in [0, 1); a seed from torch's generator chooses the elements.
    """
    seed = draw_seed(dropout, input.device)
    result: torch.Tensor = _FeedForward.apply(
        input.flatten(0, -2), *weights, seed, epsilon, dropout
    )
    return result.view_as(input)


def feed_forward_with_gradients(
    input: torch.Tensor,
    weights: FeedForwardWeights,
    gradient: torch.Tensor,
    *,
    epsilon: float,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor, FeedForwardWeights]:
    """The output of `feed_forward`, and the gradients of `input` and weights from its gradient."""
    seed = draw_seed(dropout, input.device)
    output, of_input, *of_weights = torch.ops.reformer.feed_forward_backward(
        input.flatten(0, -2), *weights, seed, gradient.flatten(0, -2), epsilon, dropout, True
    )
    return output.view_as(input), of_input.view_as(input), FeedForwardWeights(*of_weights)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        *tensors, ctx.epsilon, ctx.dropout = arguments
        ctx.save_for_backward(*tensors)
        result: torch.Tensor = torch.ops.reformer.feed_forward(*arguments)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        _, *gradients = torch.ops.reformer.feed_forward_backward(
            *ctx.saved_tensors, gradient, ctx.epsilon, ctx.dropout, False
        )
        return (*gradients, None, None, None)
