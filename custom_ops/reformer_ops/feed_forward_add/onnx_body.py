"""`FeedForwardAdd` in standard ONNX operators."""

from __future__ import annotations

import math

import onnx_ir as ir

from reformer_ops.core.onnx_writer import OnnxWriter


def body(
    w: OnnxWriter,
    residual: ir.Value,
    input: ir.Value,
    norm_weight: ir.Value,
    norm_bias: ir.Value,
    up_weight: ir.Value,
    up_bias: ir.Value,
    down_weight: ir.Value,
    down_bias: ir.Value,
    *,
    epsilon: float,
    activation: str,
) -> tuple[ir.Value]:
    """The output `[batch, length, hidden]`."""
    normed = w.layer_norm(input, norm_weight, norm_bias, epsilon)
    # Flattened to matrices, because runtimes have a fused kernel for product, bias and activation
    # only for matrices.
    rows = w.op("Flatten", normed, name="rows", axis=2)
    up = w.op("Gemm", rows, w.matrix(up_weight, "up_weight"), up_bias, name="up")
    active = activated(w, up, activation)
    down = w.op("Gemm", active, w.matrix(down_weight, "down_weight"), down_bias, name="down")
    update = w.op("Reshape", down, w.op("Shape", residual), name="update")
    return (w.op("Add", residual, update, name="output"),)


def activated(w: OnnxWriter, x: ir.Value, activation: str) -> ir.Value:
    """The activation function of `x`."""
    name = "activated"
    if activation == "linear":
        return x
    if activation == "relu":
        return w.op("Relu", x, name=name)
    if activation == "silu":
        return w.op("Mul", x, w.op("Sigmoid", x), name=name)

    def number(value: float) -> ir.Value:
        return w.to_model_type(w.float32(value))

    half = number(0.5)
    if activation == "gelu":
        share = w.op("Erf", w.op("Div", x, number(math.sqrt(2))))
    else:
        cube = w.op("Mul", w.op("Mul", x, x), x)
        inner = w.op("Add", x, w.op("Mul", cube, number(0.044715)))
        share = w.op("Tanh", w.op("Mul", inner, number(math.sqrt(2 / math.pi))))
    scaled = w.op("Mul", x, w.op("Add", share, number(1.0)))
    return w.op("Mul", scaled, half, name=name)
