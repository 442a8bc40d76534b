"""Instructions on integers and bits, compared with exact integers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .snippets import apply
from .values import check_integers, numbers, rows, wrap


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
    a, b, c = 0xF0, 0xCC, 0xAA  # the manual derives the table from these operands
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
