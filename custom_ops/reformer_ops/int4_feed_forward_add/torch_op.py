"""`torch.ops.reformer.int4_feed_forward_add`: the portable implementation and its registration."""

from __future__ import annotations

from typing import Any

import torch

from reformer_ops.core.torch_library import PORTABLE, call, check_operands, register
from reformer_ops.core.torch_linear import ACTIVATIONS, check_columns, check_octets, layer_norm
from reformer_ops.int4_feed_forward_add.spec import INT4_FEED_FORWARD_ADD
from reformer_ops.int4_linear.spec import INT4_LINEAR


def _check(*arguments: Any) -> None:
    *tensors, _, activation = arguments
    check_operands(INT4_FEED_FORWARD_ADD, *tensors)
    INT4_FEED_FORWARD_ADD.check_attributes(epsilon=0.0, activation=activation)
    operands = dict(
        zip((operand.name for operand in INT4_FEED_FORWARD_ADD.inputs), tensors, strict=True)
    )
    hidden, feed_forward = operands["input"].shape[-1], operands["up_bias"].shape[0]
    check_columns(INT4_FEED_FORWARD_ADD, operands["up_weight"], "feed_forward", feed_forward)
    check_columns(INT4_FEED_FORWARD_ADD, operands["down_weight"], "hidden", hidden)
    check_octets(
        INT4_FEED_FORWARD_ADD, operands["up_weight"], operands["up_step"], "hidden", hidden
    )
    check_octets(
        INT4_FEED_FORWARD_ADD,
        operands["down_weight"],
        operands["down_step"],
        "feed_forward",
        feed_forward,
    )


def _portable(
    residual: torch.Tensor,
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    up_weight: torch.Tensor,
    up_step: torch.Tensor,
    up_scale: torch.Tensor,
    up_bias: torch.Tensor,
    down_weight: torch.Tensor,
    down_step: torch.Tensor,
    down_scale: torch.Tensor,
    down_bias: torch.Tensor,
    epsilon: float,
    activation: str,
) -> torch.Tensor:
    linear = PORTABLE[INT4_LINEAR.torch_name]
    normed = layer_norm(input, norm_weight, norm_bias, epsilon)
    up = linear(normed, up_weight, up_step, up_scale, up_bias.to(torch.float32))
    active = ACTIVATIONS[activation](up)
    down = linear(active, down_weight, down_step, down_scale, down_bias.to(torch.float32))
    return (residual.to(torch.float32) + down).to(residual.dtype)


def _fake(residual: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(residual, memory_format=torch.contiguous_format)


register(INT4_FEED_FORWARD_ADD, _check, _portable, _fake, on_gpu=False)


def int4_feed_forward_add(
    residual: torch.Tensor,
    input: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    up_weight: torch.Tensor,
    up_step: torch.Tensor,
    up_scale: torch.Tensor,
    up_bias: torch.Tensor,
    down_weight: torch.Tensor,
    down_step: torch.Tensor,
    down_scale: torch.Tensor,
    down_bias: torch.Tensor,
    *,
    epsilon: float,
    activation: str,
) -> torch.Tensor:
    """The feed-forward of a layer with weights of 4 bits, and its sum with the stream.

    It computes `reference.int4_feed_forward_add` and has no gradients.

    Args:
        residual, input: `[batch, length, hidden]` fp32, fp16 or bf16.
        norm_weight, norm_bias: `[hidden]`, in the type of the input.
        up_weight, up_step, up_scale: the integers, steps and scales of a matrix
            `[hidden, feed_forward]`, as `int4_linear` takes them.
        up_bias: `[feed_forward]`.
        down_weight, down_step, down_scale: the same of `[feed_forward, hidden]`.
        down_bias: `[hidden]`.
        epsilon: the epsilon of the norm.
        activation: of `feed_forward_add.spec.ACTIVATIONS`.

    Returns:
        `[batch, length, hidden]`.

    Raises:
        OpError: shapes or types do not fit, or the activation is unknown.
    """
    return call(
        INT4_FEED_FORWARD_ADD,
        residual,
        input,
        norm_weight,
        norm_bias,
        up_weight,
        up_step,
        up_scale,
        up_bias,
        down_weight,
        down_step,
        down_scale,
        down_bias,
        epsilon,
        activation,
    )
