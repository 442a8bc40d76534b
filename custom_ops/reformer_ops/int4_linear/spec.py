"""Declaration of `Int4Linear`."""

from __future__ import annotations

from reformer_ops.core.spec import Operand, OpSpec

INT4_LINEAR = OpSpec(
    name="Int4Linear",
    torch_name="int4_linear",
    version=1,
    inputs=(
        Operand("input", ("batch", "length", "depth"), "float"),
        Operand("weight", ("panels", "octets", "panel", "quad"), "uint8"),
        Operand("step", ("panels", "steps", "panel"), "int8"),
        Operand("scale", ("columns",), "wide"),
        Operand("bias", ("columns",), "float"),
    ),
    attributes=(),
    outputs=(Operand("output", ("batch", "length", "columns"), "float"),),
)
