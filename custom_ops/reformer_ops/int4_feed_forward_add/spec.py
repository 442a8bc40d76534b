"""Declaration of `Int4FeedForwardAdd`."""

from __future__ import annotations

from reformer_ops.core.spec import Operand, OpSpec
from reformer_ops.feed_forward_add.spec import FEED_FORWARD_ADD

_STREAM = ("batch", "length", "hidden")

INT4_FEED_FORWARD_ADD = OpSpec(
    name="Int4FeedForwardAdd",
    torch_name="int4_feed_forward_add",
    version=1,
    inputs=(
        Operand("residual", _STREAM, "float"),
        Operand("input", _STREAM, "float"),
        Operand("norm_weight", ("hidden",), "float"),
        Operand("norm_bias", ("hidden",), "float"),
        Operand("up_weight", ("up_panels", "up_octets", "panel", "quad"), "uint8"),
        Operand("up_step", ("up_panels", "up_steps", "panel"), "int8"),
        Operand("up_scale", ("feed_forward",), "wide"),
        Operand("up_bias", ("feed_forward",), "float"),
        Operand("down_weight", ("down_panels", "down_octets", "panel", "quad"), "uint8"),
        Operand("down_step", ("down_panels", "down_steps", "panel"), "int8"),
        Operand("down_scale", ("hidden",), "wide"),
        Operand("down_bias", ("hidden",), "float"),
    ),
    attributes=FEED_FORWARD_ADD.attributes,
    outputs=(Operand("output", _STREAM, "float"),),
)
