"""What the torch forms of linear layers share: checks of weights in panels, and portable layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from reformer_ops.core.errors import OpError
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import check_operands, register
from reformer_ops.core.weight_panels import PANEL

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
}
"""The activation functions of a feed-forward."""


def check_panels(op: OpSpec, weight: torch.Tensor) -> None:
    """OpError unless a weight `[panels, depth, 16]` has panels of 16 columns."""
    if weight.shape[2] != PANEL:
        raise OpError(
            f"{op.torch_name} takes weights in panels of {PANEL} columns; got panels of "
            f"{weight.shape[2]}"
        )


def check_columns(op: OpSpec, weight: torch.Tensor, axis: str, size: int) -> None:
    """OpError unless a weight `[panels, ..]` has as many columns as the axis `axis` of `size`."""
    check_panels(op, weight)
    if weight.shape[0] * PANEL != size:
        raise OpError(
            f"{op.torch_name} takes a weight of {size} columns for {axis}; got "
            f"{weight.shape[0]} panels of {PANEL}"
        )


def matrix(panels: torch.Tensor) -> torch.Tensor:
    """`[panels, depth, 16]` -> `[depth, columns]` in fp32."""
    return panels.permute(1, 0, 2).flatten(1).to(torch.float32)


def layer_norm(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """The layer norm over the last axis, in fp32."""
    wide = (tensor.to(torch.float32) for tensor in (input, weight, bias))
    rows, weight, bias = wide
    return torch.nn.functional.layer_norm(rows, weight.shape, weight, bias, epsilon)


def register_feed_forward(
    op: OpSpec,
    linear: Callable[..., torch.Tensor],
    check_lines: Callable[[OpSpec, dict[str, torch.Tensor], str, str, int], None] | None = None,
) -> None:
    """Define a feed-forward, for weights of any type.

    Args:
        op: takes `residual`, `input`, the weights of the norm, those of `up` and those of `down`.
        linear: `(rows, *weights)` of a linear layer; all but the integers are fp32.
        check_lines: raises OpError unless the weights `name` ("up" or "down") have as many lines as
            an axis: `(op, operands, name, axis, size)`.
    """

    def check(*arguments: Any) -> None:
        *tensors, epsilon, activation = arguments
        check_operands(op, *tensors)
        op.check_attributes(epsilon=epsilon, activation=activation)
        names = [operand.name for operand in op.inputs]
        operands = dict(zip(names, tensors, strict=True))
        hidden, feed_forward = operands["input"].shape[-1], operands["up_bias"].shape[0]
        check_columns(op, operands["up_weight"], "feed_forward", feed_forward)
        check_columns(op, operands["down_weight"], "hidden", hidden)
        if check_lines is not None:
            check_lines(op, operands, "up", "hidden", hidden)
            check_lines(op, operands, "down", "feed_forward", feed_forward)

    def portable(
        residual: torch.Tensor,
        input: torch.Tensor,
        norm_weight: torch.Tensor,
        norm_bias: torch.Tensor,
        *others: Any,
    ) -> torch.Tensor:
        *weights, epsilon, activation = others
        half = len(weights) // 2
        normed = layer_norm(input, norm_weight, norm_bias, epsilon)
        active = ACTIVATIONS[activation](linear(normed, *weights[:half]))
        down = linear(active, *weights[half:])
        return (residual.to(torch.float32) + down).to(residual.dtype)

    def fake(residual: torch.Tensor, *_: Any) -> torch.Tensor:
        return torch.empty_like(residual, memory_format=torch.contiguous_format)

    register(op, check, portable, fake, on_gpu=False)
