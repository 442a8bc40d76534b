"""Linear layers that train as fast as the processor allows.

PyTorch multiplies fp32 matrices on x86-64 with MKL, which on other processors than Intel's runs at
half the speed of oneDNN, PyTorch's other library (docs/training.md has figures). What is exported
or run in eval mode is `torch.nn.Linear` as it stands.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

# Multiply-adds of a product below which what oneDNN does before it costs more than it saves.
_SMALLEST = 2**21


class Linear(nn.Linear):
    """`torch.nn.Linear`; in train mode by oneDNN where that is possible."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[.., in_features]` -> `[.., out_features]`."""
        return linear(input, self.weight, self.bias, training=self.training)


def linear(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, training: bool
) -> torch.Tensor:
    """`torch.nn.functional.linear`; with `training`, by oneDNN where that is possible."""
    if not training or not _serves(input, weight):
        return nn.functional.linear(input, weight, bias)
    result: torch.Tensor = _ByOneDNN.apply(input, weight, bias)
    return result


def _serves(input: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN is there, computes in the type that is asked for, and gains anything."""
    return (
        input.device.type == "cpu"
        and input.dtype == torch.float32
        and input.numel() * weight.shape[0] >= _SMALLEST
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # which chooses by itself
    )


def _product(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`left @ right.T + bias`."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return result


class _ByOneDNN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        return _product(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        input, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        outer, inner = gradient.flatten(0, -2), input.flatten(0, -2)
        return (
            _product(gradient, weight.t(), None) if of_input else None,
            _transposed_product(outer, inner) if of_weight else None,
            outer.sum(dim=0) if of_bias else None,
        )


def _transposed_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`left.T @ right`. The left one of a product is copied when transposed: better the smaller."""
    if left.shape[1] > right.shape[1]:
        return _product(right.t(), left.t(), None).t()
    return _product(left.t(), right.t(), None)
