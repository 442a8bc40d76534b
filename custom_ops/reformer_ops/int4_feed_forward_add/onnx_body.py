"""`Int4FeedForwardAdd` in standard ONNX operators."""

from __future__ import annotations

import onnx_ir as ir

from reformer_ops.core.onnx_writer import OnnxWriter
from reformer_ops.feed_forward_add.onnx_body import activated
from reformer_ops.int4_linear import onnx_body as int4_linear


def body(
    w: OnnxWriter,
    residual: ir.Value,
    input: ir.Value,
    norm_weight: ir.Value,
    norm_bias: ir.Value,
    up_weight: ir.Value,
    up_step: ir.Value,
    up_scale: ir.Value,
    up_bias: ir.Value,
    down_weight: ir.Value,
    down_step: ir.Value,
    down_scale: ir.Value,
    down_bias: ir.Value,
    *,
    epsilon: float,
    activation: str,
) -> tuple[ir.Value]:
    """The output `[batch, length, hidden]`."""
    normed = w.layer_norm(input, norm_weight, norm_bias, epsilon)
    (up,) = int4_linear.body(w, normed, up_weight, up_step, up_scale, up_bias)
    features = activated(w, up, activation)
    (down,) = int4_linear.body(w, features, down_weight, down_step, down_scale, down_bias)
    return (w.op("Add", residual, down, name="output"),)
