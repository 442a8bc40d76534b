"""`Int8Linear` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.int8 import BLOCK, LARGEST, SMALLEST, ZERO_POINT
from reformer_ops.core.onnx_writer import OnnxWriter


def body(
    w: OnnxWriter, input: ir.Value, weight: ir.Value, scale: ir.Value, bias: ir.Value
) -> tuple[ir.Value]:
    """The output `[batch, length, columns]`.

    Integers are floats here: runtimes have fast products of floats everywhere, and not all of them
    multiply 8-bit integers without saturation.
    """
    lines = w.op("Transpose", weight, perm=[1, 3, 0, 2])
    stored = w.op("Cast", w.op("Flatten", lines, axis=2), to=ir.DataType.FLOAT)
    return rounded_product(w, input, w.op("Sub", stored, w.float32(ZERO_POINT)), scale, bias)


def rounded_product(
    w: OnnxWriter, input: ir.Value, whole: ir.Value, scale: ir.Value, bias: ir.Value
) -> tuple[ir.Value]:
    """The output, with the integers of the weights as a matrix `[depth, columns]` in fp32.

    Runtimes compute the matrix once, when they load.
    """
    matrix = w.op("Mul", whole, scale, name="matrix")
    product = w.op("MatMul", _rounded(w, w.to_float32(input)), matrix)
    output = w.op("Add", product, w.to_float32(bias), name="sum")
    return (w.to_model_type(output, name="output"),)


def _rounded(w: OnnxWriter, rows: ir.Value) -> ir.Value:
    """The rows, with the numbers of each block rounded."""
    depth = w.size(rows, 2)
    blocks = w.op("Div", w.op("Add", depth, w.ints(BLOCK - 1)), w.ints(BLOCK))
    padding = w.op("Sub", w.op("Mul", blocks, w.ints(BLOCK)), depth)
    padded = w.op("Pad", rows, w.shape(0, 0, 0, 0, 0, padding))
    parts = w.op("Reshape", padded, w.shape(0, 0, -1, BLOCK), name="blocks")
    top = w.op("ReduceMax", w.op("Abs", parts), w.ints(-1), keepdims=1)
    step = w.op("Div", top, w.float32(LARGEST))
    step = w.op("Where", w.op("Less", top, w.float32(SMALLEST)), w.float32(1), step, name="step")
    whole = w.op("Round", w.op("Div", parts, step))
    back = w.op("Reshape", w.op("Mul", whole, step), w.shape(0, 0, -1))
    return w.op("Slice", back, w.ints(0), depth, w.ints(2), name="rounded")
