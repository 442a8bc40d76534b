"""Layer norm and projections before attention in one pass, for training on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def projections(
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    weights: Sequence[torch.Tensor],
    *,
    epsilon: float,
) -> tuple[torch.Tensor, ...]:
    """Layer norm, then a product with each weight: `[.., hidden]` -> several `[.., width]`.

    Only for inputs and weights for which `serves` is true. Results do not depend on the number of
    threads.

    Args:
        input: `[.., hidden]` fp32.
        norm_weight, norm_bias: `[hidden]`.
        weights: each `[width, hidden]`.
        epsilon: the epsilon of the norm.
    """
    found = _Projections.apply(input.flatten(0, -2), norm_weight, norm_bias, epsilon, *weights)
    return tuple(output.unflatten(0, input.shape[:-1]) for output in found)


class _Projections(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        norm_weight: torch.Tensor,
        norm_bias: torch.Tensor,
        epsilon: float,
        *weights: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(input, norm_weight, norm_bias, *weights)
        ctx.epsilon = epsilon
        arguments = (input, norm_weight, norm_bias, list(weights), epsilon)
        return tuple(torch.ops.reformer.projections(*arguments))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        input, norm_weight, norm_bias, *weights = ctx.saved_tensors
        dx, dnorm_weight, dnorm_bias, *dweights = torch.ops.reformer.projections_backward(
            input, norm_weight, norm_bias, weights, gradients, ctx.epsilon
        )
        return dx, dnorm_weight, dnorm_bias, None, *dweights
