"""`LinearAdd` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.onnx_writer import OnnxWriter


def body(w: OnnxWriter, residual: ir.Value, input: ir.Value, weight: ir.Value) -> tuple[ir.Value]:
    """The output `[batch, length, hidden]`."""
    product = w.op("MatMul", input, w.matrix(weight, "weight"), name="product")
    return (w.op("Add", residual, product, name="output"),)
