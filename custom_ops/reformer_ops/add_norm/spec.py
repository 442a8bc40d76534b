"""Declaration of `AddNorm`."""

from __future__ import annotations

from reformer_ops.core.spec import Attribute, Operand, OpSpec

_HIDDEN = ("batch", "length", "hidden")

ADD_NORM = OpSpec(
    name="AddNorm",
    torch_name="add_norm",
    version=1,
    inputs=(
        Operand("residual", _HIDDEN, "float"),
        Operand("update", _HIDDEN, "float"),
        Operand("weight", ("hidden",), "float"),
        Operand("bias", ("hidden",), "float"),
    ),
    attributes=(Attribute("epsilon", "float"),),
    outputs=(Operand("sum", _HIDDEN, "float"), Operand("normed", _HIDDEN, "float")),
)

WIDEST = 8192
"""The widest row that one GPU program holds, in elements; wider rows use standard operators."""
