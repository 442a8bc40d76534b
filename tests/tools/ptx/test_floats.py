"""Instructions on floats, compared with fractions that are rounded once."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .snippets import apply
from .types import type_named
from .values import FORMATS, exact, floats, nearest, rows

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
    # Addends about 2**29 times the products: fp64 cannot represent these sums exactly.
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
    # 1 + 2**-23 + 2**-24 - 2**-64: fp64 rounds it to a tie, which fp32 then rounds up to even.
    a, b, c = 2.0**-12 * (1 + 2**-20), 2.0**-12 * (1 - 2**-20), 1 + 2.0**-23
    assert np.float32(a * b + c) == np.float32(1 + 2**-22)
    (once,) = apply(
        "fma.rn.f32 %r, %a, %b, %c;", ("f32", [a]), ("f32", [b]), ("f32", [c]), result="f32"
    )
    assert once == np.float32(1 + 2**-23)


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


@pytest.mark.parametrize("opcode", ["add", "sub"])
@pytest.mark.parametrize("kind", ["f16", "bf16"])
@settings(max_examples=40)
@given(data=st.data())
def test_sum_of_half_and_single_is_rounded_once(
    kind: str, opcode: str, data: st.DataObject
) -> None:
    found = data.draw(rows(floats(kind), floats("f32")))
    columns = list(zip(*found, strict=True))
    result = apply(
        f"{opcode}.rn.f32.{kind} %r, %a, %b;",
        ("b16", columns[0]),
        ("b32", columns[1]),
        result="b32",
    )
    for (a, b), bits in zip(found, result.tolist(), strict=True):
        first, second = Fraction(exact(kind, a)), Fraction(exact("f32", b))
        wanted = first + second if opcode == "add" else first - second
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
    """Each element has the result of the single type."""
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
    """The manual allows errors of a few units in the last place; the emulator's are at most 1/2."""
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
