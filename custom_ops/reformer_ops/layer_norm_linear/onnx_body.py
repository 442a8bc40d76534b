"""`LayerNormLinear` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.onnx_writer import OnnxWriter


def body(
    w: OnnxWriter,
    input: ir.Value,
    norm_weight: ir.Value,
    norm_bias: ir.Value,
    weight: ir.Value,
    *,
    epsilon: float,
) -> tuple[ir.Value]:
    """The output `[batch, length, columns]`."""
    normed = w.layer_norm(input, norm_weight, norm_bias, epsilon)
    return (w.op("MatMul", normed, w.matrix(weight, "weight"), name="output"),)
