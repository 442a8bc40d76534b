"""`torch.ops.reformer.feed_forward_add`: the portable implementation and its registration."""

from __future__ import annotations

import torch

from reformer_ops.core.torch_library import call
from reformer_ops.core.torch_linear import matrix, register_feed_forward
from reformer_ops.feed_forward_add.spec import FEED_FORWARD_ADD


def _linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return rows @ matrix(weight) + bias.to(torch.float32)


register_feed_forward(FEED_FORWARD_ADD, _linear)


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
