"""`torch.ops.reformer.layer_norm_linear`: the portable implementation and its registration."""

from __future__ import annotations

import torch

from reformer_ops.core.torch_library import call, check_operands, register
from reformer_ops.core.torch_linear import check_panels, layer_norm, matrix
from reformer_ops.core.weight_panels import PANEL
from reformer_ops.layer_norm_linear.spec import LAYER_NORM_LINEAR


def _check(
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    weight: torch.Tensor,
    epsilon: float,
) -> None:
    check_operands(LAYER_NORM_LINEAR, input, norm_weight, norm_bias, weight)
    check_panels(LAYER_NORM_LINEAR, weight)


def _portable(
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    weight: torch.Tensor,
    epsilon: float,
) -> torch.Tensor:
    normed = layer_norm(input, norm_weight, norm_bias, epsilon)
    return (normed @ matrix(weight)).to(input.dtype)


def _fake(
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    weight: torch.Tensor,
    epsilon: float,
) -> torch.Tensor:
    return input.new_empty((*input.shape[:-1], weight.shape[0] * PANEL))


register(LAYER_NORM_LINEAR, _check, _portable, _fake, on_gpu=False)


def layer_norm_linear(
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    weight: torch.Tensor,
    *,
    epsilon: float,
) -> torch.Tensor:
    """A layer norm and a linear layer: `reference.layer_norm_linear`. It has no gradients.

    Args:
        input: `[batch, length, hidden]` fp32, fp16 or bf16. The others have its type.
        norm_weight, norm_bias: `[hidden]`.
        weight: `[columns / 16, hidden, 16]`, from `core.weight_panels.panels`.
        epsilon: the epsilon of the norm.

    Returns:
        `[batch, length, columns]`.

    Raises:
        OpError: shapes or types do not fit.
    """
    return call(LAYER_NORM_LINEAR, input, norm_weight, norm_bias, weight, epsilon)
