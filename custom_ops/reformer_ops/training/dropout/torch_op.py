"""Dropout of hidden states, for training on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from reformer_ops.core.dropout_masks import draw_seed


def dropout(input: torch.Tensor, share: float) -> torch.Tensor:
    """`input` with a share of its elements set to 0 and the rest scaled up, by the native kernel.

    A seed from torch's generator chooses the elements. All axes before the last are rows.

    Args:
        input: `[.., columns]` fp32 on the CPU.
        share: in [0, 1).
    """
    result: torch.Tensor = _Dropout.apply(
        input.flatten(0, -2), draw_seed(share, input.device), share
    )
    return result.view_as(input)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, seed: torch.Tensor, share: float) -> torch.Tensor:
        ctx.save_for_backward(seed)
        ctx.share = share
        result: torch.Tensor = torch.ops.reformer.dropout(input, seed, share)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (seed,) = ctx.saved_tensors
        return torch.ops.reformer.dropout(gradient, seed, ctx.share), None, None
