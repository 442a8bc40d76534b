"""`torch.ops.reformer.int8_feed_forward_add`: the portable implementation and its registration."""

from __future__ import annotations

import torch

from reformer_ops.core.errors import OpError
from reformer_ops.core.int8 import QUAD
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE, call
from reformer_ops.core.torch_linear import register_feed_forward
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD
from reformer_ops.int8_linear.spec import INT8_LINEAR


def _check_lines(
    op: OpSpec, operands: dict[str, torch.Tensor], name: str, axis: str, size: int
) -> None:
    _, quads, _, quad = operands[f"{name}_weight"].shape
    if quad != QUAD or quads * QUAD != size:
        raise OpError(
            f"{op.torch_name} takes a weight of {size} lines for {axis}; got {quads} times {quad}"
        )


def _linear(
    rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    product: torch.Tensor = PORTABLE[INT8_LINEAR.torch_name](
        rows, weight, scale, bias.to(torch.float32)
    )
    return product


register_feed_forward(INT8_FEED_FORWARD_ADD, _linear, _check_lines)


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
