"""`torch.ops.reformer.linear_add`: the portable implementation and its registration."""

from __future__ import annotations

import torch

from reformer_ops.core.torch_library import call, check_operands, register
from reformer_ops.core.torch_linear import check_columns, matrix
from reformer_ops.linear_add.spec import LINEAR_ADD


def _check(residual: torch.Tensor, input: torch.Tensor, weight: torch.Tensor) -> None:
    check_operands(LINEAR_ADD, residual, input, weight)
    check_columns(LINEAR_ADD, weight, "hidden", residual.shape[-1])


def _portable(residual: torch.Tensor, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    product = input.to(torch.float32) @ matrix(weight)
    return (residual.to(torch.float32) + product).to(residual.dtype)


def _fake(residual: torch.Tensor, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(residual, memory_format=torch.contiguous_format)


register(LINEAR_ADD, _check, _portable, _fake, on_gpu=False)


def linear_add(residual: torch.Tensor, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A sum with a linear layer: `reference.linear_add`. It has no gradients.

    Args:
        residual: `[batch, length, hidden]` fp32, fp16 or bf16. The others have its type.
        input: `[batch, length, depth]`.
        weight: `[hidden / 16, depth, 16]`, from `core.weight_panels.panels`.

    Returns:
        `[batch, length, hidden]`.

    Raises:
        OpError: shapes or types do not fit.
    """
    return call(LINEAR_ADD, residual, input, weight)
