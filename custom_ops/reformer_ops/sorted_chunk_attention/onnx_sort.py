"""A stable sort of bucket numbers in standard ONNX operators that every runtime supports.

TensorRT limits TopK to 3,840 elements, and ONNX has no argsort. A radix sort needs neither. It
sorts four bits at a time, the least significant first. The new place of an element is the number of
elements before it in (digit, position) order; an exclusive cumulative sum over one-hot digits gives
it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from reformer_ops.core.onnx_writer import OnnxWriter

DIGIT_BITS = 4


def stable_sort(
    w: OnnxWriter, keys: ir.Value, length: ir.Value, num_keys: int
) -> tuple[ir.Value, ir.Value]:
    """The sorted order of each row and its inverse.

    Args:
        keys: `[rows, length]` int32 in `0..num_keys - 1`.
        length: one-element int64 tensor.

    Returns:
        `order` (the position in each slot) and `rank` (the slot of each position), both
        `[rows, length]` int32.
    """
    positions = w.iota(length, "positions")
    order = w.op("Expand", positions, w.op("Shape", keys), name="order")
    rank = order
    digits = keys
    widths = _digit_widths(num_keys)
    shift = 0
    for number, width in enumerate(widths):
        if number:
            digits = w.op("GatherElements", keys, order, axis=1)
        digit = _digit(w, digits, shift, width, last=number == len(widths) - 1)
        shift += width
        place = _place(w, digit, positions, length, 1 << width)
        rank = place if number == 0 else w.op("GatherElements", place, rank, name="rank", axis=1)
        order = w.op("ScatterElements", order, place, order, name="order", axis=1)
    return order, rank


def _digit_widths(num_keys: int) -> list[int]:
    """The bits that each pass sorts: as few passes as possible, of nearly equal width."""
    bits = max(1, (num_keys - 1).bit_length())
    passes = -(-bits // DIGIT_BITS)
    return [bits // passes + (number < bits % passes) for number in range(passes)]


def _digit(w: OnnxWriter, keys: ir.Value, shift: int, width: int, *, last: bool) -> ir.Value:
    """Bits `shift..shift + width`, by division, because not every runtime has bitwise operators."""
    if shift:
        keys = w.op("Div", keys, w.int32(1 << shift))
    if last:
        return keys
    radix = w.int32(1 << width)
    return w.op("Sub", keys, w.op("Mul", w.op("Div", keys, radix), radix), name="digit")


def _place(
    w: OnnxWriter, digit: ir.Value, positions: ir.Value, length: ir.Value, radix: int
) -> ir.Value:
    """The new slot of each element: `[rows, length]` int32."""
    values = w.int32(np.arange(radix).reshape(1, radix, 1))
    hot = w.op("Equal", w.op("Unsqueeze", digit, w.ints(1)), values)
    hot = w.op("Cast", hot, name="one_hot", to=ir.DataType.INT32)
    flat = w.op("Reshape", hot, w.shape(0, w.op("Mul", length, w.ints(radix))))
    before = w.op("CumSum", flat, w.constant(1, np.int64), exclusive=1)
    index = w.op("Mul", digit, w.scalar_int32(length))
    index = w.op("Add", index, positions)
    return w.op("GatherElements", before, index, name="place", axis=1)
