"""Declaration of `LinearAdd`."""

from __future__ import annotations

from reformer_ops.core.spec import Operand, OpSpec

LINEAR_ADD = OpSpec(
    name="LinearAdd",
    torch_name="linear_add",
    version=1,
    inputs=(
        Operand("residual", ("batch", "length", "hidden"), "float"),
        Operand("input", ("batch", "length", "depth"), "float"),
        Operand("weight", ("panels", "depth", "panel"), "float"),
    ),
    attributes=(),
    outputs=(Operand("output", ("batch", "length", "hidden"), "float"),),
)
