"""`torch.ops.reformer.int4_linear`: the portable implementation and its registration."""

from __future__ import annotations

import torch

from reformer_ops.core.errors import OpError
from reformer_ops.core.int4 import BLOCK, OCTET, ZERO_POINT
from reformer_ops.core.int8 import QUAD
from reformer_ops.core.torch_library import call, check_operands, register
from reformer_ops.core.weight_panels import PANEL
from reformer_ops.int4_linear.spec import INT4_LINEAR
from reformer_ops.int8_linear.torch_op import rounded_product


def _check(
    input: torch.Tensor,
    weight: torch.Tensor,
    step: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
) -> None:
    check_operands(INT4_LINEAR, input, weight, step, scale, bias)
    panels, octets, panel, quad = weight.shape
    if (panel, quad) != (PANEL, QUAD):
        raise OpError(
            f"int4_linear takes weights in panels of {PANEL} columns and {QUAD} bytes; got panels "
            f"of {panel} and {quad}"
        )
    needed = (octets * OCTET, panels * PANEL)
    steps = step.shape[1]
    if steps * BLOCK != needed[0]:
        raise OpError(
            f"int4_linear takes a step for each {BLOCK} lines; got {steps} steps for {needed[0]} "
            "lines"
        )
    if (input.shape[-1], scale.shape[0]) != needed:
        raise OpError(
            f"int4_linear takes an input of depth {needed[0]} and {needed[1]} scales for a weight "
            f"of {panels} x {octets} panels; got depth {input.shape[-1]} and {scale.shape[0]} "
            "scales"
        )


def _portable(
    input: torch.Tensor,
    weight: torch.Tensor,
    step: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    stored = weight.to(torch.int32)
    halves = torch.stack([stored & 15, stored >> 4], dim=2) - ZERO_POINT
    lines = halves.permute(1, 2, 4, 0, 3).reshape(step.shape[1], BLOCK, -1)
    steps = step.permute(1, 0, 2).flatten(1)[:, None]
    whole = (lines * steps).flatten(0, 1).to(torch.float32)
    return rounded_product(input, whole, scale, bias)


def _fake(
    input: torch.Tensor,
    weight: torch.Tensor,
    step: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    return input.new_empty((*input.shape[:-1], scale.shape[0]))


register(INT4_LINEAR, _check, _portable, _fake, on_gpu=False)


def int4_linear(
    input: torch.Tensor,
    weight: torch.Tensor,
    step: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """A linear layer with weights of 4 bits: `reference.int4_linear`. It has no gradients.

    Args:
        input: `[batch, length, depth]` fp32, fp16 or bf16.
        weight: `[columns / 16, depth / 8, 16, 4]` uint8, from `core.int4.quantise`.
        step: `[columns / 16, depth / 32, 16]` int8, likewise.
        scale: `[columns]` fp32.
        bias: `[columns]`, in the type of the input.

    Returns:
        `[batch, length, columns]`.

    Raises:
        OpError: shapes or types do not fit.
    """
    return call(INT4_LINEAR, input, weight, step, scale, bias)
