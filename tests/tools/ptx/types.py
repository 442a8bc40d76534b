"""PTX's types: their bits, their NumPy types for arithmetic, and rounding to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UnknownInstructionError

Array = NDArray[Any]

_UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
_FLOAT = {16: np.float16, 32: np.float32, 64: np.float64}

CANONICAL_NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF, "f64": 0x7FFFFFFFFFFFFFFF}
"""The NaN that PTX specifies as the result of min, max and conversions."""


@dataclass(frozen=True)
class Type:
    """A fundamental type, or several packed into a register (`f16x2`: two of `f16`).

    `kind` is b (bits), u, s, f, bf (bfloat16), or pred.
    """

    name: str
    kind: str
    bits: int
    count: int = 1

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.bits // 8

    @property
    def unsigned(self) -> Any:
        """The NumPy type of its bits."""
        return np.bool_ if self.kind == "pred" else _UNSIGNED[self.bits]

    @property
    def dtype(self) -> Any:
        """The NumPy type with the arithmetic of this type; that of its bits if there is none."""
        if self.count == 1 and self.kind == "s":
            return _SIGNED[self.bits]
        if self.count == 1 and self.kind == "f":
            return _FLOAT[self.bits]
        return self.unsigned

    @property
    def is_float(self) -> bool:
        return self.kind in ("f", "bf")

    @property
    def element(self) -> Type:
        """The type of a packed type's elements; otherwise the type itself."""
        return self if self.count == 1 else type_named(self.name.split("x")[0])

    def __str__(self) -> str:
        return "." + self.name


_TYPES = {
    **{f"{kind}{bits}": Type(f"{kind}{bits}", kind, bits) for kind in "bus" for bits in _UNSIGNED},
    **{f"f{bits}": Type(f"f{bits}", "f", bits) for bits in _FLOAT},
    "bf16": Type("bf16", "bf", 16),
    "f16x2": Type("f16x2", "f", 32, 2),
    "bf16x2": Type("bf16x2", "bf", 32, 2),
    "f32x2": Type("f32x2", "f", 64, 2),
    "pred": Type("pred", "pred", 8),
}


def is_type(name: str) -> bool:
    return name in _TYPES


@cache
def type_named(name: str) -> Type:
    """The type of this name, such as "f16x2"; UnknownInstructionError if there is none."""
    if name not in _TYPES:
        raise UnknownInstructionError(f"unknown type .{name}")
    return _TYPES[name]


def widen(bits: Array, kind: Type) -> Array:
    """A float type's bits as fp64, exactly."""
    if kind.kind == "bf":
        result: Array = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return result.astype(np.float64)
    return bits.view(kind.dtype).astype(np.float64)


def narrow(values: Array, kind: Type) -> Array:
    """fp64 rounded to the nearest float of a type, ties to even, as bits. NaN becomes canonical."""
    if kind.kind == "bf":
        bits = _to_bfloat16(values)
    else:
        bits = np.atleast_1d(values.astype(kind.dtype)).view(kind.unsigned)
    nan = np.isnan(values)
    if nan.any():
        bits = np.where(nan, kind.unsigned(CANONICAL_NAN[kind.name]), bits)
    return bits


def _to_bfloat16(values: Array) -> Array:
    # Round fp64 to fp32 to odd, so that the second rounding is right in spite of the first one.
    single = values.astype(np.float32)
    bits = single.view(np.uint32)
    back = single.astype(np.float64)
    inexact = (back != values) & np.isfinite(values) & (bits & np.uint32(1) == 0)
    beyond = np.abs(back) > np.abs(values)
    bits = bits + np.where(inexact, np.where(beyond, -1, 1), 0).astype(np.uint32)
    finite = (bits & np.uint32(0x7F800000)) != np.uint32(0x7F800000)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (np.where(finite, rounded, bits) >> np.uint32(16)).astype(np.uint16)


def round_to_odd_sum(a: Array, b: Array) -> Array:
    """a + b in fp64, rounded to odd if inexact: rounding again is like rounding a + b once."""
    total = a + b
    virtual = total - a
    rest = (a - (total - virtual)) + (b - virtual)  # Knuth's TwoSum: total + rest is exact
    inexact = (rest != 0) & np.isfinite(total)
    bits = total.view(np.int64)
    # If the last bit is even, move to the neighbour in the direction of the rest. The bits of a
    # float are ordered by its magnitude.
    away = (rest > 0) == (total > 0)
    step = np.where(inexact & (bits & 1 == 0), np.where(away, 1, -1), 0)
    return (bits + step).view(np.float64)


def fused_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """fp32 a * b + c, rounded once."""
    product = a.astype(np.float64) * b  # exact: 48 bits
    total = product + c
    result: Array = total.astype(np.float32)
    # Rounding twice can be wrong only if the first result looks like a tie, or if the result is
    # so small that fp32 has fewer bits than usual.
    bits = total.view(np.uint64)
    suspect = (bits & np.uint64(0x1FFFFFFF)) == np.uint64(0x10000000)
    suspect |= np.abs(result) < np.float32(2**-125)
    if suspect.any():
        addend = np.broadcast_to(c, total.shape)[suspect].astype(np.float64)
        result[suspect] = round_to_odd_sum(product[suspect], addend).astype(np.float32)
    return result


def flush_subnormals(values: Array) -> Array:
    """`.ftz`: subnormal fp32 become zeros of the same sign."""
    tiny = np.abs(values) < np.float32(2**-126)
    if not tiny.any():
        return values
    return np.where(tiny, np.copysign(np.float32(0), values), values)
