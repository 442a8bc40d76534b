"""`AddNorm` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.onnx_writer import OnnxWriter


def body(
    w: OnnxWriter,
    residual: ir.Value,
    update: ir.Value,
    weight: ir.Value,
    bias: ir.Value,
    *,
    epsilon: float,
) -> tuple[ir.Value, ir.Value]:
    """(sum, normed), both `[batch, length, hidden]`; the norm is computed in fp32."""
    total = w.op("Add", residual, update, name="sum")
    normed = w.op(
        "LayerNormalization",
        total,
        weight,
        bias,
        name="normed",
        axis=-1,
        epsilon=float(epsilon),
        stash_type=int(ir.DataType.FLOAT),
    )
    return total, normed
