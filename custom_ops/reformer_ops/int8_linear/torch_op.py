"""`torch.ops.reformer.int8_linear`: the portable implementation and its registration."""

from __future__ import annotations

import torch

from reformer_ops.core.errors import OpError
from reformer_ops.core.int8 import BLOCK, LARGEST, QUAD, SMALLEST, ZERO_POINT
from reformer_ops.core.torch_library import call, check_operands, register
from reformer_ops.core.weight_panels import PANEL
from reformer_ops.int8_linear.spec import INT8_LINEAR


def _check(
    input: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> None:
    check_operands(INT8_LINEAR, input, weight, scale, bias)
    panels, quads, panel, quad = weight.shape
    if (panel, quad) != (PANEL, QUAD):
        raise OpError(
            f"int8_linear takes weights in panels of {PANEL} columns and {QUAD} lines; got panels "
            f"of {panel} and {quad}"
        )
    needed = (quads * QUAD, panels * PANEL)
    if (input.shape[-1], scale.shape[0]) != needed:
        raise OpError(
            f"int8_linear takes an input of depth {needed[0]} and {needed[1]} scales for a weight "
            f"of {panels} x {quads} panels; got depth {input.shape[-1]} and {scale.shape[0]} scales"
        )


def _portable(
    input: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    lines = weight.permute(1, 3, 0, 2).flatten(2).flatten(0, 1)
    return rounded_product(input, lines.to(torch.float32) - ZERO_POINT, scale, bias)


def rounded_product(
    input: torch.Tensor, whole: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """The operator with the integers of the weights as a matrix `[depth, columns]` in fp32."""
    rows = input.to(torch.float32)
    depth = rows.shape[-1]
    blocks = torch.nn.functional.pad(rows, [0, -depth % BLOCK]).unflatten(-1, (-1, BLOCK))
    top = blocks.abs().amax(dim=-1, keepdim=True)
    step = torch.where(top < SMALLEST, torch.ones_like(top), top / LARGEST)
    rounded = (torch.round(blocks / step) * step).flatten(-2)[..., :depth]
    return (rounded @ (whole * scale) + bias.to(torch.float32)).to(input.dtype)


def _fake(
    input: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    return input.new_empty((*input.shape[:-1], scale.shape[0]))


register(INT8_LINEAR, _check, _portable, _fake, on_gpu=False)


def int8_linear(
    input: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """A linear layer with weights of 8 bits: `reference.int8_linear`. It has no gradients.

    Args:
        input: `[batch, length, depth]` fp32, fp16 or bf16.
        weight: `[columns / 16, depth / 4, 16, 4]` uint8, from `core.int8.quantise`.
        scale: `[columns]` fp32.
        bias: `[columns]`, in the type of the input.

    Returns:
        `[batch, length, columns]`.

    Raises:
        OpError: shapes or types do not fit.
    """
    return call(INT8_LINEAR, input, weight, scale, bias)
