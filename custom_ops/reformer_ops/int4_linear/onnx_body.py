"""`Int4Linear` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.int4 import BLOCK, ZERO_POINT
from reformer_ops.core.onnx_writer import OnnxWriter
from reformer_ops.int8_linear.onnx_body import rounded_product


def body(
    w: OnnxWriter,
    input: ir.Value,
    weight: ir.Value,
    step: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
) -> tuple[ir.Value]:
    """The output `[batch, length, columns]`."""
    stored = w.op("Cast", weight, to=ir.DataType.FLOAT)
    high = w.op("Floor", w.op("Div", stored, w.float32(16)))
    low = w.op("Sub", stored, w.op("Mul", high, w.float32(16)))
    pair = [w.op("Unsqueeze", half, w.ints(2)) for half in (low, high)]
    lines = w.op("Transpose", w.op("Concat", *pair, axis=2), perm=[1, 2, 4, 0, 3])
    columns = w.size(scale, 0)
    lines = w.op("Reshape", lines, w.shape(-1, BLOCK, columns))
    steps = w.op("Cast", w.op("Transpose", step, perm=[1, 0, 2]), to=ir.DataType.FLOAT)
    steps = w.op("Reshape", steps, w.shape(-1, 1, columns))
    whole = w.op("Mul", w.op("Sub", lines, w.float32(ZERO_POINT)), steps)
    whole = w.op("Reshape", whole, w.shape(-1, columns))
    return rounded_product(w, input, whole, scale, bias)
