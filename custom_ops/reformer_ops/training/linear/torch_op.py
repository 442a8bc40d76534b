"""Linear layers for training that use the full speed of the processor.

On x86-64 PyTorch multiplies fp32 matrices with MKL. On processors that are not from Intel, MKL
reaches a third of the possible speed (docs/training.md has figures).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def linear(input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`input @ weight.T` by the native kernels, `[.., in_features]` -> `[.., out_features]` fp32.

    Only for inputs and weights for which `serves` is true. Results do not depend on the number of
    threads.
    """
    result: torch.Tensor = _Linear.apply(input.flatten(0, -2), weight)
    return result.unflatten(0, input.shape[:-1])


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        result: torch.Tensor = torch.ops.reformer.linear(input, weight)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        input, weight = ctx.saved_tensors
        of_input, of_weight = ctx.needs_input_grad
        ops = torch.ops.reformer
        return (
            ops.linear_input_gradient(gradient, weight) if of_input else None,
            ops.linear_weight_gradient(gradient, input) if of_weight else None,
        )
