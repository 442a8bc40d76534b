"""Conversions, compared with fractions and NumPy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .snippets import apply
from .values import FORMATS, check_integers, exact, floats, nearest, numbers, rows


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


def test_conversion_to_tf32() -> None:
    """Rounds to the nearest number of eleven bits, ties away from zero."""
    ulp = 2.0**-10
    given = [1 + ulp / 2, 1 + 0.49 * ulp, -1 - ulp / 2, 2.0**-140, np.inf, 0.0]
    found = apply("cvt.rna.tf32.f32 %r, %a;", ("f32", given), result="f32").tolist()
    assert found[:3] == [1 + ulp, 1, -1 - ulp]
    assert found[3:] == [0.0, np.inf, 0.0]  # the first is too small for the remaining bits
