"""What the torch forms of linear layers share: checks of weights in panels, and portable layers."""

from __future__ import annotations

from collections.abc import Callable

import torch

from reformer_ops.core import int4
from reformer_ops.core.errors import OpError
from reformer_ops.core.int8 import QUAD
from reformer_ops.core.spec import OpSpec
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


def check_quads(op: OpSpec, weight: torch.Tensor, axis: str, size: int) -> None:
    """OpError unless a weight of 8 bits has as many lines as the axis `axis` of `size`."""
    _, quads, _, quad = weight.shape
    if quad != QUAD or quads * QUAD != size:
        raise OpError(
            f"{op.torch_name} takes a weight of {size} lines for {axis}; got {quads} times {quad}"
        )


def check_octets(
    op: OpSpec, weight: torch.Tensor, step: torch.Tensor, axis: str, size: int
) -> None:
    """OpError unless a weight of 4 bits has as many lines as the axis, and a step for each 32."""
    _, octets, _, quad = weight.shape
    steps = step.shape[1]
    if quad != QUAD or octets * int4.OCTET != size or steps * int4.BLOCK != size:
        raise OpError(
            f"{op.torch_name} takes a weight of {size} lines for {axis}, with a step for each "
            f"{int4.BLOCK}; got {octets} times {quad} bytes and {steps} steps"
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
