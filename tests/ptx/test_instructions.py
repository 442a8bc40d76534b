"""The emulator, instruction by instruction, against exact integers, fractions and NumPy."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .errors import UnknownInstructionError
from .machine import Program
from .snippets import apply, kernel
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


def truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul.lo": lambda a, b: a * b,
    "min": min,
    "max": max,
}


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=10)
@given(data=st.data())
def test_integer_arithmetic(name: str, kind: str, data: st.DataObject) -> None:
    one = numbers(int(kind[1:]), signed=kind[0] == "s")
    found = data.draw(rows(one, one))
    check_integers(f"{name}.{kind} %r, %a, %b;", [kind, kind], kind, found, BINARY[name])


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32", "u64", "s64"])
@settings(max_examples=10)
@given(data=st.data())
def test_multiplication_high(kind: str, data: st.DataObject) -> None:
    bits = int(kind[1:])
    one = numbers(bits, signed=kind[0] == "s")
    found = data.draw(rows(one, one))
    code = f"mul.hi.{kind} %r, %a, %b;"
    check_integers(code, [kind, kind], kind, found, lambda a, b: a * b >> bits)


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32"])
@settings(max_examples=10)
@given(data=st.data())
def test_multiplication_wide(kind: str, data: st.DataObject) -> None:
    bits, letter = int(kind[1:]), kind[0]
    wide = f"{letter}{2 * bits}"
    one = numbers(bits, signed=letter == "s")
    two = numbers(2 * bits, signed=letter == "s")
    found = data.draw(rows(one, one, two))
    check_integers(
        f"mul.wide.{kind} %r, %a, %b;", [kind, kind, wide], wide, found, lambda a, b, c: a * b
    )
    check_integers(
        f"mad.wide.{kind} %r, %a, %b, %c;",
        [kind, kind, wide],
        wide,
        found,
        lambda a, b, c: a * b + c,
    )


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
@settings(max_examples=10)
@given(data=st.data())
def test_multiply_add(kind: str, data: st.DataObject) -> None:
    bits = int(kind[1:])
    one = numbers(bits, signed=kind[0] == "s")
    found = data.draw(rows(one, one, one))
    kinds = [kind] * 3
    code = f"mad.lo.{kind} %r, %a, %b, %c;"
    check_integers(code, kinds, kind, found, lambda a, b, c: a * b + c)
    code = f"mad.hi.{kind} %r, %a, %b, %c;"
    check_integers(code, kinds, kind, found, lambda a, b, c: (a * b >> bits) + c)


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
@settings(max_examples=10)
@given(data=st.data())
def test_division(kind: str, data: st.DataObject) -> None:
    one = numbers(int(kind[1:]), signed=kind[0] == "s")
    found = data.draw(rows(one, one.filter(bool)))
    check_integers(f"div.{kind} %r, %a, %b;", [kind, kind], kind, found, truncated)
    check_integers(
        f"rem.{kind} %r, %a, %b;", [kind, kind], kind, found, lambda a, b: a - truncated(a, b) * b
    )


@settings(max_examples=20)
@given(rows(numbers(32, signed=True), numbers(32, signed=True)))
def test_saturating_addition(found: list[tuple[int, int]]) -> None:
    def clamp(value: int) -> int:
        return max(-(2**31), min(2**31 - 1, value))

    kinds = ["s32", "s32"]
    check_integers("add.sat.s32 %r, %a, %b;", kinds, "s32", found, lambda a, b: clamp(a + b))
    check_integers("sub.sat.s32 %r, %a, %b;", kinds, "s32", found, lambda a, b: clamp(a - b))


@pytest.mark.parametrize("kind", ["s16", "s32", "s64"])
@settings(max_examples=10)
@given(data=st.data())
def test_sign(kind: str, data: st.DataObject) -> None:
    found = data.draw(rows(numbers(int(kind[1:]), signed=True)))
    check_integers(f"neg.{kind} %r, %a;", [kind], kind, found, lambda a: -a)
    check_integers(f"abs.{kind} %r, %a;", [kind], kind, found, abs)


@pytest.mark.parametrize("bits", [16, 32, 64])
@settings(max_examples=10)
@given(data=st.data())
def test_logic(bits: int, data: st.DataObject) -> None:
    kind = f"b{bits}"
    one = numbers(bits, signed=False)
    found = data.draw(rows(one, one))
    for name, function in {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
    }.items():
        check_integers(f"{name}.{kind} %r, %a, %b;", [kind, kind], kind, found, function)
    check_integers(f"not.{kind} %r, %a;", [kind, kind], kind, found, lambda a, b: ~a)


def test_logic_of_predicates() -> None:
    a, b = [False, False, True, True], [False, True, False, True]
    for name, wanted in {
        "and": [False, False, False, True],
        "or": [False, True, True, True],
        "xor": [False, True, True, False],
    }.items():
        code = f"{name}.pred %r, %a, %b;"
        assert apply(code, ("pred", a), ("pred", b), result="pred").tolist() == wanted
    assert apply("not.pred %r, %a;", ("pred", a), result="pred").tolist() == [not x for x in a]
    assert apply("mov.pred %r, -1;", ("pred", a), result="pred").all()


@pytest.mark.parametrize("bits", [16, 32, 64])
@settings(max_examples=10)
@given(data=st.data())
def test_shifts(bits: int, data: st.DataObject) -> None:
    amounts = st.integers(0, 70) | numbers(32, signed=False)
    found = data.draw(rows(numbers(bits, signed=False), amounts))
    b, u, s = f"b{bits}", f"u{bits}", f"s{bits}"
    check_integers(
        f"shl.{b} %r, %a, %b;", [b, "u32"], b, found, lambda a, n: a << n if n < bits else 0
    )
    check_integers(f"shr.{u} %r, %a, %b;", [u, "u32"], u, found, lambda a, n: a >> min(n, bits))
    signed = [(wrap(a, bits, signed=True), n) for a, n in found]
    check_integers(f"shr.{s} %r, %a, %b;", [s, "u32"], s, signed, lambda a, n: a >> min(n, bits))


@settings(max_examples=20)
@given(rows(numbers(32, signed=False), numbers(32, signed=False), st.integers(0, 70)))
def test_funnel_shift(found: list[tuple[int, int, int]]) -> None:
    kinds = ["b32", "b32", "b32"]
    for mode, amount in {"wrap": lambda n: n & 31, "clamp": lambda n: min(n, 32)}.items():
        check_integers(
            f"shf.l.{mode}.b32 %r, %a, %b, %c;",
            kinds,
            "b32",
            found,
            lambda low, high, n, amount=amount: ((high << 32 | low) << amount(n)) >> 32,
        )
        check_integers(
            f"shf.r.{mode}.b32 %r, %a, %b, %c;",
            kinds,
            "b32",
            found,
            lambda low, high, n, amount=amount: (high << 32 | low) >> amount(n),
        )


def extracted(value: int, first: int, count: int, bits: int, *, signed: bool) -> int:
    """The loop of the PTX manual."""
    top = bits - 1
    sign = 0 if not signed or count == 0 else value >> min(first + count - 1, top) & 1
    result = 0
    for i in range(bits):
        bit = value >> (first + i) & 1 if i < count and first + i <= top else sign
        result |= bit << i
    return result


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
@settings(max_examples=20)
@given(data=st.data())
def test_bit_field_extract(kind: str, data: st.DataObject) -> None:
    bits, signed = int(kind[1:]), kind[0] == "s"
    place = st.integers(0, 80) | st.integers(0, 300)
    found = data.draw(rows(numbers(bits, signed=False), place, place))
    check_integers(
        f"bfe.{kind} %r, %a, %b, %c;",
        [kind, "u32", "u32"],
        kind,
        found,
        lambda a, p, n: extracted(a, p & 255, n & 255, bits, signed=signed),
    )


@pytest.mark.parametrize("bits", [32, 64])
@settings(max_examples=20)
@given(data=st.data())
def test_bit_field_insert(bits: int, data: st.DataObject) -> None:
    def inserted(a: int, b: int, p: int, n: int) -> int:
        p, n = p & 255, n & 255
        for i in range(n):
            if p + i < bits:
                b = b & ~(1 << (p + i)) | (a >> i & 1) << (p + i)
        return b

    place = st.integers(0, 80) | st.integers(0, 300)
    one = numbers(bits, signed=False)
    found = data.draw(rows(one, one, place, place))
    kinds = [f"b{bits}", f"b{bits}", "u32", "u32"]
    check_integers(f"bfi.b{bits} %r, %a, %b, %c, %d;", kinds, kinds[0], found, inserted)


@settings(max_examples=20)
@given(rows(numbers(32, signed=False), numbers(32, signed=False), numbers(32, signed=False)))
def test_byte_permute(found: list[tuple[int, int, int]]) -> None:
    def permuted(a: int, b: int, selector: int) -> int:
        pool = a.to_bytes(4, "little") + b.to_bytes(4, "little")
        result = []
        for i in range(4):
            nibble = selector >> 4 * i & 15
            byte = pool[nibble & 7]
            result.append((0xFF if byte & 0x80 else 0) if nibble & 8 else byte)
        return int.from_bytes(bytes(result), "little")

    check_integers("prmt.b32 %r, %a, %b, %c;", ["b32"] * 3, "b32", found, permuted)


@pytest.mark.parametrize("table", [0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x1B])
def test_any_logic_of_three(table: int) -> None:
    a, b, c = 0xF0, 0xCC, 0xAA  # as the manual derives the table: by the operation on these
    code = f"lop3.b32 %r, %a, %b, %c, {table};"
    found = apply(code, ("b32", [a]), ("b32", [b]), ("b32", [c]), result="b32")
    assert found[0] & 0xFF == table


@pytest.mark.parametrize("bits", [32, 64])
@settings(max_examples=20)
@given(data=st.data())
def test_counting_bits(bits: int, data: st.DataObject) -> None:
    found = data.draw(rows(numbers(bits, signed=False)))
    kind, ones = f"b{bits}", 2**32 - 1
    check_integers(f"popc.{kind} %r, %a;", [kind], "u32", found, int.bit_count)
    check_integers(f"clz.{kind} %r, %a;", [kind], "u32", found, lambda a: bits - a.bit_length())
    check_integers(
        f"brev.{kind} %r, %a;", [kind], kind, found, lambda a: int(f"{a:0{bits}b}"[::-1], 2)
    )
    check_integers(
        f"bfind.u{bits} %r, %a;",
        [kind],
        "u32",
        found,
        lambda a: a.bit_length() - 1 if a else ones,
    )
    check_integers(
        f"bfind.s{bits} %r, %a;",
        [kind],
        "u32",
        found,
        lambda a: (~a & 2**bits - 1 if a >> bits - 1 else a).bit_length() - 1 & ones,
    )
    check_integers(
        f"bfind.shiftamt.u{bits} %r, %a;",
        [kind],
        "u32",
        found,
        lambda a: bits - a.bit_length() if a else ones,
    )


# Floats


def exact(kind: str, bits: int) -> float:
    """A float from its bits, as a Python float."""
    if kind == "bf16":
        return float(np.array([bits << 16], np.uint32).view(np.float32)[0])
    size = {"f16": 16, "f32": 32, "f64": 64}[kind]
    return float(np.array([bits], f"u{size // 8}").view(f"f{size // 8}")[0])


FORMATS = {"f16": (16, 10), "bf16": (16, 7), "f32": (32, 23), "f64": (64, 52)}
"""Bits in all, and those of the fraction."""


def nearest(value: Fraction, kind: str) -> int:
    """The bits of the float next to a number that is not 0, ties to even: by counting, no float."""
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


FLOAT: dict[str, Callable[..., Fraction]] = {
    "add{rn}.{t} %r, %a, %b;": lambda a, b: a + b,
    "sub{rn}.{t} %r, %a, %b;": lambda a, b: a - b,
    "mul{rn}.{t} %r, %a, %b;": lambda a, b: a * b,
    "fma.rn.{t} %r, %a, %b, %c;": lambda a, b, c: a * b + c,
    "div.rn.{t} %r, %a, %b;": lambda a, b: a / b,
    "rcp.rn.{t} %r, %a;": lambda a: 1 / a,
}
WITHOUT = {("div", "f16"), ("div", "bf16"), ("rcp", "f16"), ("rcp", "bf16"), ("fma", "f64")}


@pytest.mark.parametrize(
    ("code", "kind"),
    [(code, kind) for code in FLOAT for kind in FORMATS if (code[:3], kind) not in WITHOUT],
)
@settings(max_examples=40)
@given(data=st.data())
def test_float_arithmetic_is_rounded_once(code: str, kind: str, data: st.DataObject) -> None:
    function = FLOAT[code]
    arity = function.__code__.co_argcount
    found = data.draw(rows(*[floats(kind)] * arity))
    columns = list(zip(*found, strict=True))
    text = code.format(t=kind, rn=".rn" if kind != "bf16" else "")
    size = FORMATS[kind][0]
    result = apply(text, *((f"b{size}", column) for column in columns), result=f"b{size}")
    for row, bits in zip(found, result.tolist(), strict=True):
        values = [Fraction(exact(kind, each)) for each in row]
        if code[:3] in ("div", "rcp") and values[-1] == 0:
            continue
        wanted = function(*values)
        if wanted == 0:
            assert bits in (0, 1 << size - 1)
        else:
            assert bits == nearest(wanted, kind), (row, hex(bits))


def test_fma_differs_from_rounding_twice() -> None:
    libm = ctypes.CDLL("libm.so.6")
    libm.fmaf.restype = ctypes.c_float
    libm.fmaf.argtypes = [ctypes.c_float] * 3
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(4096).astype(np.float32) for _ in range(3))
    # Sums next to the middle between two floats: where fp64 in between gives another result.
    c[:2048] = (a[:2048].astype(np.float64) * b[:2048]).astype(np.float32) * np.float32(2**29)
    found = np.concatenate(
        [
            apply(
                "fma.rn.f32 %r, %a, %b, %c;",
                *(("f32", each[at : at + 1024]) for each in (a, b, c)),
                result="f32",
            )
            for at in range(0, 4096, 1024)
        ]
    )
    wanted = [libm.fmaf(*map(float, row)) for row in zip(a, b, c, strict=True)]
    assert found.tolist() == wanted
    # 1 + 2**-24 + 2**-54 is above the tie, which fp64 no longer sees.
    hard = apply(
        "fma.rn.f32 %r, %a, %b, %c;",
        ("f32", [1 + 2**-23]),
        ("f32", [2.0**-30 * (1 - 2**-24)]),
        ("f32", [1.0]),
        result="f32",
    )
    assert hard[0] == np.float32(1.0)
    tie = apply(
        "fma.rn.f32 %r, %a, %b, %c;",
        ("f32", [2.0**-27 + 2.0**-50, -(2.0**-27 + 2.0**-50)]),
        ("f32", [2.0**3] * 2),
        ("f32", [1.0] * 2),
        result="f32",
    )
    assert tie[0] == np.float32(1 + 2**-23)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@settings(max_examples=40)
@given(data=st.data())
def test_fma_of_halves_into_single_is_rounded_once(kind: str, data: st.DataObject) -> None:
    found = data.draw(rows(floats(kind), floats(kind), floats("f32")))
    columns = list(zip(*found, strict=True))
    result = apply(
        f"fma.rn.f32.{kind} %r, %a, %b, %c;",
        ("b16", columns[0]),
        ("b16", columns[1]),
        ("b32", columns[2]),
        result="b32",
    )
    for (a, b, c), bits in zip(found, result.tolist(), strict=True):
        wanted = Fraction(exact(kind, a)) * Fraction(exact(kind, b)) + Fraction(exact("f32", c))
        if wanted == 0:
            assert bits in (0, 1 << 31)
        else:
            assert bits == nearest(wanted, "f32")


def test_flushing_and_saturation() -> None:
    tiny = np.float32(2**-130)
    apply_to = [("f32", [tiny, -tiny, 1.5, np.nan]), ("f32", [1.0, 1.0, 1.0, 1.0])]
    plain = apply("mul.f32 %r, %a, %b;", *apply_to, result="f32")
    assert plain[:2].tolist() == [tiny, -tiny]
    flushed = apply("mul.ftz.f32 %r, %a, %b;", *apply_to, result="f32")
    assert flushed[:2].tolist() == [0.0, 0.0]
    assert np.signbit(flushed[1])
    clamped = apply("mul.sat.f32 %r, %a, %b;", *apply_to, result="f32")
    assert clamped.tolist() == [tiny, 0.0, 1.0, 0.0]
    added = apply("add.ftz.f32 %r, %a, %b;", ("f32", [tiny]), ("f32", [tiny]), result="f32")
    assert added[0] == 0.0


@pytest.mark.parametrize("kind", ["f16x2", "bf16x2", "f32x2"])
def test_packed_arithmetic(kind: str) -> None:
    """As the single type does it, element by element."""
    packed = type_named(kind)
    element = packed.element
    rng = np.random.default_rng(1)
    wide = [rng.integers(0, 2**element.bits, (3, 64), dtype=np.uint64) for _ in range(2)]
    operands = [low | high << np.uint64(element.bits) for low, high in zip(*wide, strict=True)]
    name = element.name
    for opcode, arity in (("add", 2), ("sub", 2), ("mul", 2), ("fma", 3)):
        names = "%a, %b, %c"[: 4 * arity - 2]
        rounding = ".rn" if opcode == "fma" or kind != "bf16x2" else ""
        found = apply(
            f"{opcode}{rounding}.{kind} %r, {names};",
            *((f"b{packed.bits}", each) for each in operands[:arity]),
            result=f"b{packed.bits}",
        )
        for number, part in enumerate(wide):
            single = apply(
                f"{opcode}{rounding}.{name} %r, {names};",
                *((f"b{element.bits}", each) for each in part[:arity]),
                result=f"b{element.bits}",
            )
            mine = found.astype(np.uint64) >> np.uint64(element.bits * number)
            nan = np.isnan([exact(name, bits) for bits in single.tolist()])
            assert (nan | (mine.astype(element.unsigned) == single)).all()


def test_minimum_and_maximum_of_floats() -> None:
    nan, other = np.float32(np.nan), np.float32(2.0)
    a = ("f32", [1.0, nan, other, nan, -0.0, 0.0])
    b = ("f32", [2.0, other, nan, nan, 0.0, -0.0])
    low = apply("min.f32 %r, %a, %b;", a, b, result="b32")
    high = apply("max.f32 %r, %a, %b;", a, b, result="b32")
    two, zero, minus, canonical = 0x40000000, 0, 0x80000000, 0x7FFFFFFF
    assert low.tolist() == [0x3F800000, two, two, canonical, minus, minus]
    assert high.tolist() == [two, two, two, canonical, zero, zero]
    propagated = apply("max.NaN.f32 %r, %a, %b;", a, b, result="b32")
    assert propagated.tolist() == [two, canonical, canonical, canonical, zero, zero]
    three = apply("max.f32 %r, %a, %b, %c;", a, b, ("f32", [9.0] * 6), result="f32")
    assert three.tolist() == [9.0] * 6
    halves = apply(
        "max.bf16 %r, %a, %b;", ("b16", [0x3F80, 0x7FC0]), ("b16", [0x4000, 0x7FC1]), result="b16"
    )
    assert halves.tolist() == [0x4000, 0x7FFF]
    pairs = apply(
        "min.f16x2 %r, %a, %b;", ("b32", [0x3C00_4000]), ("b32", [0x4000_3C00]), result="b32"
    )
    assert pairs.tolist() == [0x3C00_3C00]


def test_sign_of_floats() -> None:
    values = ("f32", [1.5, -2.0, 0.0])
    assert apply("neg.f32 %r, %a;", values, result="b32").tolist() == [
        0xBFC00000,
        0x40000000,
        0x80000000,
    ]
    assert apply("abs.f32 %r, %a;", values, result="f32").tolist() == [1.5, 2.0, 0.0]
    assert apply("neg.bf16x2 %r, %a;", ("b32", [0x3F80BF80]), result="b32").tolist() == [0xBF803F80]


APPROXIMATE: dict[str, Callable[[Any], Any]] = {
    "ex2.approx.f32": np.exp2,
    "ex2.approx.ftz.f32": np.exp2,
    "lg2.approx.f32": lambda x: np.log2(np.abs(x)),
    "rsqrt.approx.f32": lambda x: 1 / np.sqrt(np.abs(x)),
    "rsqrt.approx.ftz.f32": lambda x: 1 / np.sqrt(np.abs(x)),
    "sqrt.approx.f32": lambda x: np.sqrt(np.abs(x)),
    "sqrt.rn.f32": lambda x: np.sqrt(np.abs(x)),
    "rcp.approx.ftz.f32": lambda x: 1 / x,
    "sin.approx.f32": np.sin,
    "cos.approx.f32": np.cos,
    "tanh.approx.f32": np.tanh,
}


@pytest.mark.parametrize("opcode", APPROXIMATE)
def test_functions(opcode: str) -> None:
    """The manual bounds approximations by a few units in the last place: here it is 1/2."""
    x = np.random.default_rng(2).uniform(-20, 20, 128).astype(np.float32)
    positive = opcode.startswith(("lg2", "rsqrt", "sqrt"))
    found = apply(f"{opcode} %r, %a;", ("f32", np.abs(x) if positive else x), result="f32")
    wanted = APPROXIMATE[opcode](x.astype(np.float64))
    assert (np.abs(found - wanted) <= 0.51 * np.spacing(np.abs(wanted).astype(np.float32))).all()


def test_functions_at_their_edges() -> None:
    edges = ("f32", [0.0, -0.0, np.inf, -np.inf, -1.0])
    assert apply("ex2.approx.ftz.f32 %r, %a;", edges, result="f32").tolist() == [
        1,
        1,
        np.inf,
        0,
        0.5,
    ]
    assert apply("rcp.approx.ftz.f32 %r, %a;", edges, result="f32").tolist() == [
        np.inf,
        -np.inf,
        0,
        0,
        -1,
    ]
    found = apply("lg2.approx.f32 %r, %a;", edges, result="f32")
    assert found[:3].tolist() == [-np.inf, -np.inf, np.inf]
    assert np.isnan(found[3:]).all()
    assert np.isnan(apply("sqrt.rn.f32 %r, %a;", edges, result="f32")[3:]).all()
    divided = apply("div.full.f32 %r, %a, %b;", edges, ("f32", [0.0, 1, 1, 1, 0.0]), result="f32")
    assert np.isnan(divided[0])
    assert divided[1:].tolist() == [0, np.inf, -np.inf, -np.inf]


# Conversions


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (s, t)
        for s in ("u16", "s16", "u32", "s32", "u64", "s64")
        for t in ("u16", "s16", "u32", "s32", "u64", "s64")
    ],
)
@settings(max_examples=5)
@given(data=st.data())
def test_conversion_between_integers(source: str, target: str, data: st.DataObject) -> None:
    found = data.draw(rows(numbers(int(source[1:]), signed=source[0] == "s")))
    check_integers(f"cvt.{target}.{source} %r, %a;", [source], target, found, lambda a: a)
    bits, signed = int(target[1:]), target[0] == "s"
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    check_integers(
        f"cvt.sat.{target}.{source} %r, %a;",
        [source],
        target,
        found,
        lambda a: max(low, min(high, a)),
    )


def test_conversion_extends_into_wider_registers() -> None:
    wide = apply(
        "cvt.s16.s32 %h, %a; mov.b32 %r, %h;", ("s32", [-1]), result="s32", more=".reg .b32 %h;"
    )
    assert wide.tolist() == [-1]
    wide = apply(
        "cvt.u16.u32 %h, %a; mov.b32 %r, %h;",
        ("u32", [0x1FFFF]),
        result="u32",
        more=".reg .b32 %h;",
    )
    assert wide.tolist() == [0xFFFF]


@pytest.mark.parametrize("target", ["s32", "u32", "s64", "u64", "s16", "u16"])
@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
def test_conversion_from_float_to_integer(mode: str, target: str) -> None:
    function = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}[mode]
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 2.7, -2.7, 0.0, 40000.0, -40000.0, 3e9, -3e9, 1e19, -1e19]
    values = [float(np.float32(value)) for value in values]
    bits, signed = int(target[1:]), target[0] == "s"
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    wanted = [max(low, min(high, function(value))) for value in values] + [0, high, low]
    found = apply(
        f"cvt.{mode}.{target}.f32 %r, %a;",
        ("f32", [*values, np.nan, np.inf, -np.inf]),
        result=target,
    )
    assert found.tolist() == wanted


@pytest.mark.parametrize("source", ["s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("target", ["f32", "f64"])
@settings(max_examples=15)
@given(data=st.data())
def test_conversion_from_integer_to_float(source: str, target: str, data: st.DataObject) -> None:
    found = data.draw(rows(numbers(int(source[1:]), signed=source[0] == "s")))
    result = apply(
        f"cvt.rn.{target}.{source} %r, %a;",
        (source, [row[0] for row in found]),
        result=f"b{target[1:]}",
    )
    wanted = [nearest(Fraction(a), target) if a else 0 for (a,) in found]
    assert result.tolist() == wanted


@pytest.mark.parametrize(
    ("source", "target"), [("f32", "f16"), ("f32", "bf16"), ("f64", "f32"), ("f64", "f16")]
)
@settings(max_examples=40)
@given(data=st.data())
def test_conversion_to_narrower_floats(source: str, target: str, data: st.DataObject) -> None:
    found = [row[0] for row in data.draw(rows(floats(source)))]
    size, narrow_size = FORMATS[source][0], FORMATS[target][0]
    result = apply(
        f"cvt.rn.{target}.{source} %r, %a;", (f"b{size}", found), result=f"b{narrow_size}"
    )
    for bits, converted in zip(found, result.tolist(), strict=True):
        value = Fraction(exact(source, bits))
        wanted = nearest(value, target) if value else 0
        assert converted | (1 << narrow_size - 1) == wanted | (1 << narrow_size - 1)
        assert converted >> narrow_size - 1 == bits >> size - 1


@pytest.mark.parametrize("target", ["f16", "bf16"])
@settings(max_examples=20)
@given(data=st.data())
def test_conversion_rounded_one_way(target: str, data: st.DataObject) -> None:
    found = [row[0] for row in data.draw(rows(floats("f32")))]
    values = np.array(found, np.uint32).view(np.float32).astype(np.float64)
    largest = exact(target, {"f16": 0x7BFF, "bf16": 0x7F7F}[target])
    for mode in ("rz", "rm", "rp"):
        if mode == "rz":
            code = f"cvt.rz.{target}.f32 %r, %a;"
        else:
            code = f"cvt.{mode}.{target}.f32 %r, %a;"
        result = apply(code, ("b32", found), result="b16")
        nearest_bits = apply(f"cvt.rn.{target}.f32 %r, %a;", ("b32", found), result="b16")
        for value, bits, near in zip(values, result.tolist(), nearest_bits.tolist(), strict=True):
            got, around = exact(target, bits), exact(target, near)
            inside = {"rz": abs(got) <= abs(value), "rm": got <= value, "rp": got >= value}[mode]
            assert inside
            if abs(value) <= largest:  # the nearest, or its neighbour
                assert abs((bits & 0x7FFF) - (near & 0x7FFF)) <= 1
                if around == value:
                    assert got == value


def test_conversion_packs_two() -> None:
    high, low = [1.0, np.nan, 70000.0], [-2.0, 3.0, -1e-3]
    operands = [("f32", high), ("f32", low)]
    found = apply("cvt.rn.f16x2.f32 %r, %a, %b;", *operands, result="b32")
    minus_small = int(np.array([-1e-3], np.float16).view(np.uint16)[0])
    assert found.tolist() == [0x3C00_C000, 0x7FFF_4200, 0x7C00_0000 | minus_small]
    found = apply("cvt.rn.satfinite.relu.f16x2.f32 %r, %a, %b;", *operands, result="b32")
    assert found.tolist() == [0x3C00_0000, 0x7FFF_4200, 0x7BFF_0000]
    found = apply("cvt.rn.bf16x2.f32 %r, %a, %b;", *operands, result="b32")
    assert found.tolist()[:2] == [0x3F80_C000, 0x7FFF_4040]


def test_conversion_to_wider_floats_and_to_whole_numbers() -> None:
    assert apply("cvt.f32.f16 %r, %a;", ("b16", [0x3C01, 0x8001]), result="f32").tolist() == [
        1 + 2**-10,
        -(2.0**-24),
    ]
    assert apply("cvt.f32.bf16 %r, %a;", ("b16", [0x3F81]), result="f32").tolist() == [1 + 2**-7]
    assert apply("cvt.f64.f32 %r, %a;", ("f32", [0.1]), result="f64")[0] == np.float32(0.1)
    values = ("f32", [0.5, 1.5, -1.5, 2.7])
    assert apply("cvt.rni.f32.f32 %r, %a;", values, result="f32").tolist() == [0, 2, -2, 3]
    assert apply("cvt.rmi.f32.f32 %r, %a;", values, result="f32").tolist() == [0, 1, -2, 2]
    assert apply("cvt.sat.f32.f32 %r, %a;", values, result="f32").tolist() == [0.5, 1, 0, 1]


# Moving, comparing, choosing


def test_moving_and_taking_apart() -> None:
    values = ("b64", [0x1122334455667788])
    low = apply(
        "mov.b64 {%l, %h}, %a; mov.b32 %r, %l;", values, result="b32", more=".reg .b32 %l, %h;"
    )
    high = apply(
        "mov.b64 {%l, %h}, %a; mov.b32 %r, %h;", values, result="b32", more=".reg .b32 %l, %h;"
    )
    assert (low[0], high[0]) == (0x55667788, 0x11223344)
    joined = apply("mov.b64 %r, {%a, %b};", ("b32", [1]), ("b32", [2]), result="b64")
    assert joined[0] == 2 << 32 | 1
    half = apply(
        "mov.b64 %w, {%a, %never}; mov.b64 {%r, _}, %w;",
        ("b32", [5]),
        result="b32",
        more=".reg .b64 %w; .reg .b32 %never;",
    )
    assert half[0] == 5
    discarded = apply(
        "mov.b32 {_, %h}, %a; mov.b32 %r, {%h, %h};",
        ("b32", [0xABCD1234]),
        result="b32",
        more=".reg .b16 %h;",
    )
    assert discarded[0] == 0xABCDABCD
    assert apply("mov.f32 %r, 0f3F800000;", ("b32", [0]), result="f32")[0] == 1.0
    assert apply("mov.f64 %r, 0d3FF8000000000000;", ("b32", [0]), result="f64")[0] == 1.5
    assert apply("mov.b32 %r, -2;", ("b32", [0]), result="s32")[0] == -2
    assert (
        apply("{ .reg .b32 %t; mov.b32 %t, %a; mov.b32 %r, %t; }", ("b32", [7]), result="b32")[0]
        == 7
    )
    assert apply("cvta.to.global.u64 %r, %a;", ("b64", [123]), result="b64")[0] == 123


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32", "u64", "s64"])
@settings(max_examples=10)
@given(data=st.data())
def test_comparison_of_integers(kind: str, data: st.DataObject) -> None:
    bits = int(kind[1:])
    one = numbers(bits, signed=kind[0] == "s")
    found = [*data.draw(rows(one, one)), (3, 3)]
    columns = [(kind, column) for column in zip(*found, strict=True)]
    names = dict(COMPARE)
    if kind[0] == "u":
        names |= {
            "lo": COMPARE["lt"],
            "ls": COMPARE["le"],
            "hi": COMPARE["gt"],
            "hs": COMPARE["ge"],
        }
    for name, compare in names.items():
        result = apply(f"setp.{name}.{kind} %r, %a, %b;", *columns, result="pred")
        assert result.tolist() == [compare(*row) for row in found]


def test_comparison_of_floats_next_to_nan() -> None:
    nan = float("nan")
    found = [(a, b) for a in (1.0, 2.0, nan, 0.0) for b in (1.0, nan, -0.0)]
    columns = [("f32", column) for column in zip(*found, strict=True)]
    for name, compare in COMPARE.items():
        ordered = apply(f"setp.{name}.f32 %r, %a, %b;", *columns, result="pred")
        unordered = apply(f"setp.{name}u.f32 %r, %a, %b;", *columns, result="pred")
        for (a, b), one, two in zip(found, ordered, unordered, strict=True):
            has_nan = math.isnan(a) or math.isnan(b)
            assert one == (not has_nan and compare(a, b))
            assert two == (has_nan or compare(a, b))
    nans = [math.isnan(a) or math.isnan(b) for a, b in found]
    assert apply("setp.nan.f32 %r, %a, %b;", *columns, result="pred").tolist() == nans
    assert apply("setp.num.f32 %r, %a, %b;", *columns, result="pred").tolist() == [
        not each for each in nans
    ]


def test_comparison_with_two_results_and_a_third_operand() -> None:
    a, b, c = ("s32", [1, 2, 3, 4]), ("s32", [2, 2, 2, 2]), ("pred", [True, False, True, False])
    more = ".reg .pred %p, %q;"
    both = "setp.lt.s32 %p|%q, %a, %b;"
    first = apply(f"{both} mov.pred %r, %p;", a, b, result="pred", more=more)
    second = apply(f"{both} mov.pred %r, %q;", a, b, result="pred", more=more)
    assert first.tolist() == [True, False, False, False]
    assert second.tolist() == [False, True, True, True]
    for name, combine in {
        "and": np.logical_and,
        "or": np.logical_or,
        "xor": np.logical_xor,
    }.items():
        third = apply(f"setp.lt.{name}.s32 %r, %a, %b, %c;", a, b, c, result="pred")
        assert third.tolist() == combine(first, c[1]).tolist()
        negated = apply(f"setp.lt.{name}.s32 %r, %a, %b, !%c;", a, b, c, result="pred")
        assert negated.tolist() == combine(first, np.logical_not(c[1])).tolist()


def test_selection_and_guards() -> None:
    a, b, c = ("b32", [1, 2]), ("b32", [3, 4]), ("pred", [True, False])
    assert apply("selp.b32 %r, %a, %b, %c;", a, b, c, result="b32").tolist() == [1, 4]
    assert apply("selp.f32 %r, %a, 0f40000000, %c;", a, b, c, result="b32").tolist() == [
        1,
        0x40000000,
    ]
    assert apply("mov.b32 %r, %a; @%c mov.b32 %r, %b;", a, b, c, result="b32").tolist() == [3, 2]
    assert apply("mov.b32 %r, %a; @!%c mov.b32 %r, %b;", a, b, c, result="b32").tolist() == [1, 4]


@pytest.mark.parametrize(
    "code",
    [
        "addc.u32 %r, %a, %a;",
        "add.rz.f32 %r, %a, %a;",
        "add.u32.wrong %r, %a, %a;",
        "mul.u32 %r, %a, %a;",
        "cvt.f16.f32 %r, %a;",
        "cvt.rz.f32.s32 %r, %a;",
        "setp.lt.b32 %p, %a, %a; mov.b32 %r, %a;",
        "mov.b32 %r, %h;",
        "add.u32 %r, %a;",
        "fma.rn.u32 %r, %a, %a, %a;",
        "ld.const.b32 %r, [%base];",
        "st.local.b32 [%base], %a;",
        "prmt.f4e.b32 %r, %a, %a, %a;",
        "barrier.cta.arrive 0; mov.b32 %r, %a;",
        "bar.sync 1; mov.b32 %r, %a;",
        "ex2.f32 %r, %a;",
        "mov.b32 %r, somewhere;",
        "atom.global.inc.u32 %r, [%base], %a;",
        "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%r}, {%a}, {%a}, {%a};",
    ],
)
def test_what_is_unknown_is_refused(code: str) -> None:
    with pytest.raises(UnknownInstructionError, match=r"is not known to the emulator; line \d+"):
        apply(code, ("b32", [1]), result="b32", more=".reg .b16 %h; .reg .pred %p;")


def test_unknown_instructions_are_refused_even_where_nothing_reaches_them() -> None:
    with pytest.raises(UnknownInstructionError, match="opcode tcgen05"):
        Program(kernel([], "    bra $end;\n    tcgen05.wait::ld.sync.aligned;\n$end:"))
