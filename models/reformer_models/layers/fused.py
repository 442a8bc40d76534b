"""Layers fused with adjacent operations, for inference on CPUs. They have no gradients.

Their weights are stored in panels, the layout that the kernels read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import torch
from torch import nn

from reformer_models.layers.attention import ReformerAttention, SelfOutput
from reformer_models.layers.hashing import BucketSource
from reformer_models.layers.quantised import Int4Linear, Int8Linear, QuantisedLinear
from reformer_ops.core.weight_panels import PANEL, panels
from reformer_ops.torch_ops import (
    feed_forward_add,
    int4_feed_forward_add,
    int8_feed_forward_add,
    layer_norm_linear,
    linear_add,
)

ACTIVATIONS: Final = {
    "linear": "linear",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""The activation of the fused feed-forward by a checkpoint's `hidden_act`. With any other
`hidden_act`, the feed-forward is not fused."""


def fits_panels(linear: nn.Module) -> bool:
    """True if `linear` is a plain linear layer whose sizes are multiples of 16."""
    return isinstance(linear, nn.Linear) and not any(n % PANEL for n in linear.weight.shape)


_OPERATORS: Final[dict[type[nn.Module], Callable[..., torch.Tensor]]] = {
    Int8Linear: int8_feed_forward_add,
    Int4Linear: int4_feed_forward_add,
}
"""The feed-forward of two linear layers of a type with fewer bits."""


def fits_together(up: nn.Module, down: nn.Module) -> bool:
    """True if two linear layers become one feed-forward: plain ones, or of one type of weights."""
    if type(up) in _OPERATORS:
        return type(up) is type(down)
    return fits_panels(up) and fits_panels(down)


class _Panels(nn.Module):
    """The weight of a linear layer in panels, and its bias if it has one."""

    weight_panels: torch.Tensor
    bias: torch.Tensor

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        linear = cast(nn.Linear, linear)
        matrix = linear.weight.detach().T
        stored = torch.from_numpy(panels(matrix.numpy()))
        self.register_buffer("weight_panels", stored)
        if linear.bias is not None:
            self.register_buffer("bias", linear.bias.detach())

    @property
    def operands(self) -> tuple[torch.Tensor, ...]:
        """The weight and the bias."""
        return self.weight_panels, self.bias


class NormLinear(_Panels):
    """A layer norm and a linear layer without bias."""

    def __init__(self, norm: nn.LayerNorm, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.norm = norm

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, hidden]` before the norm -> `[batch, length, out_features]`."""
        norm = self.norm
        return layer_norm_linear(
            hidden, norm.weight, norm.bias, self.weight_panels, epsilon=norm.eps
        )


class LinearAdd(_Panels):
    """The sum of a stream and a linear layer."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.has_bias = linear.bias is not None

    def forward(self, stream: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
        """`[batch, length, hidden]` and `[batch, length, in_features]` -> the former's shape."""
        if self.has_bias:
            stream = stream + self.bias
        return linear_add(stream, input, self.weight_panels)


class FusedAttention(ReformerAttention):
    """An attention whose projections compute the norm, and whose output layer adds the stream."""

    def __init__(self, attention: ReformerAttention) -> None:
        """From the parts of an attention whose output layer `fits_panels`."""
        nn.Module.__init__(self)
        self.layer_norm = attention.layer_norm
        self.self_attention = attention.self_attention
        self.output = LinearAdd(cast(SelfOutput, attention.output).dense)

    def add(
        self,
        stream: torch.Tensor,
        hidden: torch.Tensor,
        mask: torch.Tensor,
        source: BucketSource | None,
    ) -> torch.Tensor:
        """The sum of a stream and the attention of the other one, `[batch, length, hidden]`."""
        return self.add_output(stream, self.attended(hidden, mask, source))

    def add_output(self, stream: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The sum of a stream and the output layer of `[batch, length, width]`."""
        result: torch.Tensor = self.output(stream, attended)
        return result


class FusedFeedForward(nn.Module):
    """The sum of a stream and the feed-forward of the other one."""

    def __init__(self, norm: nn.LayerNorm, up: nn.Module, down: nn.Module, activation: str) -> None:
        """From the parts of a feed-forward, for which `fits_together` is true."""
        super().__init__()
        self.layer_norm = norm
        self.activation = activation
        self.operator = _OPERATORS.get(type(up), feed_forward_add)
        self.up = up if isinstance(up, QuantisedLinear) else _Panels(up)
        self.down = down if isinstance(down, QuantisedLinear) else _Panels(down)

    def forward(self, stream: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, hidden]` each -> the same."""
        norm = self.layer_norm
        return self.operator(
            stream,
            hidden,
            norm.weight,
            norm.bias,
            *self.up.operands,
            *self.down.operands,
            epsilon=norm.eps,
            activation=self.activation,
        )

    def add(self, stream: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The same; it has the name that `ReformerFeedForward` uses."""
        result: torch.Tensor = self(stream, hidden)
        return result
