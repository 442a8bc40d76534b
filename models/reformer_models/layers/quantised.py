"""Linear layers and embeddings with weights of 8 and of 4 bits. They have no gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import nn

from reformer_ops.core import int4, int8
from reformer_ops.torch_ops import int4_linear, int8_linear

Array = NDArray[Any]


class _Scaled(nn.Module):
    """A module whose `scale` keeps fp32 in a half-precision model."""

    scale: torch.Tensor

    def _apply(self, fn: Callable[..., torch.Tensor], recurse: bool = True) -> Self:
        scale = self.scale
        super()._apply(fn, recurse)
        self.scale = scale.to(self.scale.device)
        return self


class QuantisedLinear(_Scaled, ABC):
    """`input @ weight.T + bias` by an operator that docs/ops.md defines."""

    weight: torch.Tensor
    bias: torch.Tensor
    rounds_input = True
    """False for a model that others are compared with: it computes with the weights in fp32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """From `[out_features, in_features]` and `[out_features]`, for which `takes` is true."""
        super().__init__()
        for name, array in self.quantised(weight.detach().to(torch.float32).T.numpy()).items():
            self.register_buffer(name, torch.from_numpy(array))
        zeros = torch.zeros(len(weight), dtype=weight.dtype)
        self.register_buffer("bias", zeros if bias is None else bias.detach().clone())

    @classmethod
    def takes(cls, weight: torch.Tensor) -> bool:
        """True if the operator takes a weight of this size."""
        columns, depth = weight.shape
        return cls.fits(depth, columns)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[batch, length, in_features]` or `[rows, in_features]` -> the same of out_features."""
        if not self.rounds_input:
            matrix = torch.from_numpy(self.integers()) * self.scale
            return (input @ matrix + self.bias).to(input.dtype)
        rows = input if input.dim() == 3 else input[None]
        output = self.product(rows)
        return output if input.dim() == 3 else output[0]

    @staticmethod
    @abstractmethod
    def fits(depth: int, columns: int) -> bool:
        """True if the operator takes a matrix of this size."""

    @staticmethod
    @abstractmethod
    def quantised(matrix: Array) -> dict[str, Array]:
        """The weights of the operator for a matrix `[in_features, out_features]`, by name."""

    @abstractmethod
    def integers(self) -> Array:
        """The matrix that is multiplied by the scales, `[in_features, out_features]`."""

    @property
    @abstractmethod
    def operands(self) -> tuple[torch.Tensor, ...]:
        """The weights, the scales and the bias, as the operators take them."""

    @abstractmethod
    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, length, in_features]` -> `[batch, length, out_features]`."""


class Int8Linear(QuantisedLinear):
    """A linear layer by the operator `Int8Linear`."""

    fits = staticmethod(int8.fits)

    @staticmethod
    def quantised(matrix: Array) -> dict[str, Array]:
        """The weights of the operator."""
        return dict(zip(("weight", "scale"), int8.quantise(matrix), strict=True))

    def integers(self) -> Array:
        """The integers of the weights."""
        return int8.integers(self.weight.numpy())

    @property
    def operands(self) -> tuple[torch.Tensor, ...]:
        """The weights, the scales and the bias."""
        return self.weight, self.scale, self.bias

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """The operator."""
        return int8_linear(rows, *self.operands)


class Int4Linear(QuantisedLinear):
    """A linear layer by the operator `Int4Linear`."""

    step: torch.Tensor
    fits = staticmethod(int4.fits)

    @staticmethod
    def quantised(matrix: Array) -> dict[str, Array]:
        """The weights of the operator."""
        return dict(zip(("weight", "step", "scale"), int4.quantise(matrix), strict=True))

    def integers(self) -> Array:
        """The integers of the weights times their steps."""
        return int4.integers(self.weight.numpy(), self.step.numpy())

    @property
    def operands(self) -> tuple[torch.Tensor, ...]:
        """The weights, the steps, the scales and the bias."""
        return self.weight, self.step, self.scale, self.bias

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """The operator."""
        return int4_linear(rows, *self.operands)


def is_quantised(module: nn.Module) -> bool:
    """True if a linear layer of the model has been replaced by one with weights of fewer bits."""
    return isinstance(module, QuantisedLinear)


class Int8Embedding(_Scaled):
    """Rows of integers from -127 to 127, and a scale for each row."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        """From `[rows, width]`."""
        super().__init__()
        columns, scale = int8.round_columns(weight.detach().to(torch.float32).T.numpy())
        self.register_buffer("weight", torch.from_numpy(columns.T.copy()))
        self.register_buffer("scale", torch.from_numpy(scale)[:, None])
        # Its dtype is that of the model.
        self.register_buffer("model_type", torch.zeros(0, dtype=weight.dtype), persistent=False)

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """`[..]` int64 -> `[.., width]` in the model's type."""
        rows = self.weight[indices].to(torch.float32) * self.scale[indices]
        return rows.to(self.get_buffer("model_type").dtype)
