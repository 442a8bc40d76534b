"""Linear layers and embeddings with weights of 8 bits. They have no gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import nn

from reformer_ops.core.int8 import fits, integers, quantise, round_columns
from reformer_ops.torch_ops import int8_linear


class _Scaled(nn.Module):
    """A module whose `scale` keeps fp32 in a half-precision model."""

    scale: torch.Tensor

    def _apply(self, fn: Callable[..., torch.Tensor], recurse: bool = True) -> Self:
        scale = self.scale
        super()._apply(fn, recurse)
        self.scale = scale.to(self.scale.device)
        return self


class Int8Linear(_Scaled):
    """`input @ weight.T + bias` by the operator `Int8Linear`, which docs/ops.md defines."""

    weight: torch.Tensor
    bias: torch.Tensor
    rounds_input = True
    """False for a model that others are compared with: it computes with the weights in fp32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """From `[out_features, in_features]` and `[out_features]`, for which `takes` is true."""
        super().__init__()
        panels, scale = quantise(weight.detach().to(torch.float32).T.numpy())
        self.register_buffer("weight", torch.from_numpy(panels))
        self.register_buffer("scale", torch.from_numpy(scale))
        zeros = torch.zeros(len(weight), dtype=weight.dtype)
        self.register_buffer("bias", zeros if bias is None else bias.detach().clone())

    @staticmethod
    def takes(weight: torch.Tensor) -> bool:
        """True if the operator takes a weight of this size."""
        columns, depth = weight.shape
        return fits(depth, columns)

    @property
    def operands(self) -> tuple[torch.Tensor, ...]:
        """The weight, the scales and the bias, as the operators take them."""
        return self.weight, self.scale, self.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[batch, length, in_features]` or `[rows, in_features]` -> the same of out_features."""
        if not self.rounds_input:
            matrix = torch.from_numpy(integers(self.weight.numpy())) * self.scale
            return (input @ matrix + self.bias).to(input.dtype)
        rows = input if input.dim() == 3 else input[None]
        output = int8_linear(rows, *self.operands)
        return output if input.dim() == 3 else output[0]


def is_quantised(module: nn.Module) -> bool:
    """True if a linear layer of the model has been replaced by one with weights of 8 bits."""
    return isinstance(module, Int8Linear)


class Int8Embedding(_Scaled):
    """Rows of integers from -127 to 127, and a scale for each row."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        """From `[rows, width]`."""
        super().__init__()
        columns, scale = round_columns(weight.detach().to(torch.float32).T.numpy())
        self.register_buffer("weight", torch.from_numpy(columns.T.copy()))
        self.register_buffer("scale", torch.from_numpy(scale)[:, None])
        # Its dtype is that of the model.
        self.register_buffer("model_type", torch.zeros(0, dtype=weight.dtype), persistent=False)

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """`[..]` int64 -> `[.., width]` in the model's type."""
        rows = self.weight[indices].to(torch.float32) * self.scale[indices]
        return rows.to(self.get_buffer("model_type").dtype)
