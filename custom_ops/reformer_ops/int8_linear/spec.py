"""Declaration of `Int8Linear`."""

from __future__ import annotations

from reformer_ops.core.spec import Operand, OpSpec

INT8_LINEAR = OpSpec(
    name="Int8Linear",
    torch_name="int8_linear",
    version=1,
    inputs=(
        Operand("input", ("batch", "length", "depth"), "float"),
        Operand("weight", ("panels", "quads", "panel", "quad"), "uint8"),
        Operand("scale", ("columns",), "wide"),
        Operand("bias", ("columns",), "float"),
    ),
    attributes=(),
    outputs=(Operand("output", ("batch", "length", "columns"), "float"),),
)
