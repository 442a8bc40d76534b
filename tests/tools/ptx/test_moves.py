"""Moves, comparisons and selections; unknown instructions are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .errors import UnknownInstructionError
from .machine import Program
from .snippets import apply, kernel
from .values import numbers, rows


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
