"""Declaration of `FeedForwardAdd`."""

from __future__ import annotations

from reformer_ops.core.spec import Attribute, Operand, OpSpec

_STREAM = ("batch", "length", "hidden")

ACTIVATIONS = ("linear", "relu", "gelu", "gelu_tanh", "silu")
"""Activation functions that the operator has."""

FEED_FORWARD_ADD = OpSpec(
    name="FeedForwardAdd",
    torch_name="feed_forward_add",
    version=1,
    inputs=(
        Operand("residual", _STREAM, "float"),
        Operand("input", _STREAM, "float"),
        Operand("norm_weight", ("hidden",), "float"),
        Operand("norm_bias", ("hidden",), "float"),
        Operand("up_weight", ("up_panels", "hidden", "panel"), "float"),
        Operand("up_bias", ("feed_forward",), "float"),
        Operand("down_weight", ("down_panels", "feed_forward", "panel"), "float"),
        Operand("down_bias", ("hidden",), "float"),
    ),
    attributes=(
        Attribute("epsilon", "float"),
        Attribute("activation", "text", choices=ACTIVATIONS),
    ),
    outputs=(Operand("output", _STREAM, "float"),),
)
