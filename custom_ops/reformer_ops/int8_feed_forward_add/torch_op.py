"""`torch.ops.reformer.int8_feed_forward_add`: the portable implementation and its registration."""

from __future__ import annotations

from typing import Any

import torch

from reformer_ops.core.torch_library import PORTABLE, call, check_operands, register
from reformer_ops.core.torch_linear import ACTIVATIONS, check_columns, check_quads, layer_norm
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD
from reformer_ops.int8_linear.spec import INT8_LINEAR


def _check(*arguments: Any) -> None:
    *tensors, _, activation = arguments
    check_operands(INT8_FEED_FORWARD_ADD, *tensors)
    INT8_FEED_FORWARD_ADD.check_attributes(epsilon=0.0, activation=activation)
    operands = dict(
        zip((operand.name for operand in INT8_FEED_FORWARD_ADD.inputs), tensors, strict=True)
    )
    hidden, feed_forward = operands["input"].shape[-1], operands["up_bias"].shape[0]
    check_columns(INT8_FEED_FORWARD_ADD, operands["up_weight"], "feed_forward", feed_forward)
    check_columns(INT8_FEED_FORWARD_ADD, operands["down_weight"], "hidden", hidden)
    check_quads(INT8_FEED_FORWARD_ADD, operands["up_weight"], "hidden", hidden)
    check_quads(INT8_FEED_FORWARD_ADD, operands["down_weight"], "feed_forward", feed_forward)


def _portable(
    residual: torch.Tensor,
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    up_weight: torch.Tensor,
    up_scale: torch.Tensor,
    up_bias: torch.Tensor,
    down_weight: torch.Tensor,
    down_scale: torch.Tensor,
    down_bias: torch.Tensor,
    epsilon: float,
    activation: str,
) -> torch.Tensor:
    linear = PORTABLE[INT8_LINEAR.torch_name]
    normed = layer_norm(input, norm_weight, norm_bias, epsilon)
    up = linear(normed, up_weight, up_scale, up_bias.to(torch.float32))
    down = linear(ACTIVATIONS[activation](up), down_weight, down_scale, down_bias.to(torch.float32))
    return (residual.to(torch.float32) + down).to(residual.dtype)


def _fake(residual: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(residual, memory_format=torch.contiguous_format)


register(INT8_FEED_FORWARD_ADD, _check, _portable, _fake, on_gpu=False)


def int8_feed_forward_add(
    residual: torch.Tensor,
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    up_weight: torch.Tensor,
    up_scale: torch.Tensor,
    up_bias: torch.Tensor,
    down_weight: torch.Tensor,
    down_scale: torch.Tensor,
    down_bias: torch.Tensor,
    *,
    epsilon: float,
    activation: str,
) -> torch.Tensor:
    """The feed-forward of a layer with weights of 8 bits, and its sum with the stream.

    It computes `reference.int8_feed_forward_add` and has no gradients.

    Args:
        residual, input: `[batch, length, hidden]` fp32, fp16 or bf16.
        norm_weight, norm_bias: `[hidden]`, in the type of the input.
        up_weight, up_scale: the integers and scales of a matrix `[hidden, feed_forward]`, as
            `int8_linear` takes them.
        up_bias: `[feed_forward]`.
        down_weight, down_scale: the same of `[feed_forward, hidden]`.
        down_bias: `[hidden]`.
        epsilon: the epsilon of the norm.
        activation: of `feed_forward_add.spec.ACTIVATIONS`.

    Returns:
        `[batch, length, hidden]`.

    Raises:
        OpError: shapes or types do not fit, or the activation is unknown.
    """
    return call(
        INT8_FEED_FORWARD_ADD,
        residual,
        input,
        norm_weight,
        norm_bias,
        up_weight,
        up_scale,
        up_bias,
        down_weight,
        down_scale,
        down_bias,
        epsilon,
        activation,
    )
