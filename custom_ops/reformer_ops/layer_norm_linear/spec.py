"""Declaration of `LayerNormLinear`."""

from __future__ import annotations

from reformer_ops.core.spec import Attribute, Operand, OpSpec

LAYER_NORM_LINEAR = OpSpec(
    name="LayerNormLinear",
    torch_name="layer_norm_linear",
    version=1,
    inputs=(
        Operand("input", ("batch", "length", "hidden"), "float"),
        Operand("norm_weight", ("hidden",), "float"),
        Operand("norm_bias", ("hidden",), "float"),
        Operand("weight", ("panels", "hidden", "panel"), "float"),
    ),
    attributes=(Attribute("epsilon", "float"),),
    outputs=(Operand("output", ("batch", "length", "columns"), "float"),),
)
