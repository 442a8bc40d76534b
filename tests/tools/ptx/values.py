"""Numbers to test instructions with, and exact arithmetic for the expected results."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .snippets import apply
from .types import type_named

WORDS = {16: "16", 32: "32", 64: "64"}
INTERESTING = [0, 1, 2, 3, 7, 31, 32, 33, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x12345678]
INTERESTING += [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1]


def numbers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    edges = [wrap(value, bits, signed=signed) for value in INTERESTING]
    return st.sampled_from(edges) | st.integers(low, high)


def wrap(value: int, bits: int, *, signed: bool) -> int:
    value &= 2**bits - 1
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


def rows(*columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    return st.lists(st.tuples(*columns), min_size=1, max_size=24)


def check_integers(
    code: str, kinds: list[str], result: str, given_rows: Any, exact: Callable[..., int]
) -> None:
    columns = list(zip(*given_rows, strict=True))
    found = apply(code, *zip(kinds, columns, strict=True), result=result)
    kind = type_named(result)
    wanted = [wrap(int(exact(*row)), kind.bits, signed=kind.kind == "s") for row in given_rows]
    assert found.tolist() == wanted


def exact(kind: str, bits: int) -> float:
    """A float from its bits, as a Python float."""
    if kind == "bf16":
        return float(np.array([bits << 16], np.uint32).view(np.float32)[0])
    size = {"f16": 16, "f32": 32, "f64": 64}[kind]
    return float(np.array([bits], f"u{size // 8}").view(f"f{size // 8}")[0])


FORMATS = {"f16": (16, 10), "bf16": (16, 7), "f32": (32, 23), "f64": (64, 52)}
"""The number of bits in total, and of the fraction."""


def nearest(value: Fraction, kind: str) -> int:
    """The bits of the float nearest to a nonzero number, ties to even; computed without floats."""
    size, fraction_bits = FORMATS[kind]
    bias = 2 ** (size - fraction_bits - 2) - 1
    sign, value = (1, -value) if value < 0 else (0, value)
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= value < Fraction(2) ** exponent
    step = Fraction(2) ** (max(exponent, 1 - bias) - fraction_bits)
    count = round(value / step)  # Python rounds ties to even
    low = (max(exponent, 1 - bias) + bias - 1) << fraction_bits
    infinity = (2 ** (size - fraction_bits - 1) - 1) << fraction_bits
    bits = count if exponent < 1 - bias else low + count
    return sign << size - 1 | min(bits, infinity)


def floats(kind: str) -> st.SearchStrategy[int]:
    """Finite numbers as bits: all sizes, subnormals, and neighbours of powers of two."""
    size, fraction_bits = FORMATS[kind]
    exponents = 2 ** (size - fraction_bits - 1) - 1
    middle = exponents // 2
    exponent = st.integers(0, exponents - 1) | st.integers(middle - 3, middle + 3)
    edges = st.sampled_from([0, 1, 2**fraction_bits - 1, 2 ** (fraction_bits - 1)])
    fraction = edges | st.integers(0, 2**fraction_bits - 1)
    return st.builds(
        lambda s, e, f: s << size - 1 | e << fraction_bits | f,
        st.integers(0, 1),
        exponent,
        fraction,
    )
