"""`torch.ops.reformer.feed_forward_add`: the portable implementation and its registration."""

from __future__ import annotations

from typing import Any

import torch

from reformer_ops.core.torch_library import call, check_operands, register
from reformer_ops.core.torch_linear import ACTIVATIONS, check_columns, layer_norm, matrix
from reformer_ops.feed_forward_add.spec import FEED_FORWARD_ADD


def _check(*arguments: Any) -> None:
    *tensors, _, activation = arguments
    check_operands(FEED_FORWARD_ADD, *tensors)
    FEED_FORWARD_ADD.check_attributes(epsilon=0.0, activation=activation)
    operands = dict(
        zip((operand.name for operand in FEED_FORWARD_ADD.inputs), tensors, strict=True)
    )
    hidden, feed_forward = operands["input"].shape[-1], operands["up_bias"].shape[0]
    check_columns(FEED_FORWARD_ADD, operands["up_weight"], "feed_forward", feed_forward)
    check_columns(FEED_FORWARD_ADD, operands["down_weight"], "hidden", hidden)


def _portable(
    residual: torch.Tensor,
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    up_weight: torch.Tensor,
    up_bias: torch.Tensor,
    down_weight: torch.Tensor,
    down_bias: torch.Tensor,
    epsilon: float,
    activation: str,
) -> torch.Tensor:
    normed = layer_norm(input, norm_weight, norm_bias, epsilon)
    up = normed @ matrix(up_weight) + up_bias.to(torch.float32)
    active = ACTIVATIONS[activation](up)
    down = active @ matrix(down_weight) + down_bias.to(torch.float32)
    return (residual.to(torch.float32) + down).to(residual.dtype)


def _fake(residual: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(residual, memory_format=torch.contiguous_format)


register(FEED_FORWARD_ADD, _check, _portable, _fake, on_gpu=False)


def feed_forward_add(
    residual: torch.Tensor,
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    up_weight: torch.Tensor,
    up_bias: torch.Tensor,
    down_weight: torch.Tensor,
    down_bias: torch.Tensor,
    *,
    epsilon: float,
    activation: str,
) -> torch.Tensor:
    """The feed-forward of a layer, and its sum with the stream: `reference.feed_forward_add`.

    It has no gradients.

    Args:
        residual, input: `[batch, length, hidden]` fp32, fp16 or bf16.
        norm_weight, norm_bias: `[hidden]`, in the type of the input.
        up_weight: `[feed_forward / 16, hidden, 16]`, from `core.weight_panels.panels`.
        up_bias: `[feed_forward]`.
        down_weight: `[hidden / 16, feed_forward, 16]`.
        down_bias: `[hidden]`.
        epsilon: the epsilon of the norm.
        activation: of `feed_forward_add.spec.ACTIVATIONS`.

    Returns:
        `[batch, length, hidden]`.

    Raises:
        OpError: shapes or types do not fit, or the activation is unknown.
    """
    return call(
        FEED_FORWARD_ADD,
        residual,
        input,
        norm_weight,
        norm_bias,
        up_weight,
        up_bias,
        down_weight,
        down_bias,
        epsilon,
        activation,
    )
