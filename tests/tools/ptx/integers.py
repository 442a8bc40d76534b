"""Integer arithmetic and bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .decode import Action, Modifiers, instruction, operand_count, reader, unknown, writer
from .errors import KernelFault
from .lanes import Lanes, Mask
from .parser import Instruction, Kernel
from .types import Array, Type, type_named

_LIMITS = {(kind, bits): np.iinfo(f"{kind}{bits // 8}") for kind in "iu" for bits in (16, 32, 64)}


def elementwise(
    ins: Instruction, kernel: Kernel, source: Type, result: Type, function: Callable[..., Any]
) -> Action:
    """Apply `function` to the operands after the first, of type `source`; write to the first."""
    reads = [reader(ins, operand, source, kernel) for operand in ins.operands[1:]]
    write = writer(ins, ins.operands[0], result)

    def act(lanes: Lanes, mask: Mask) -> None:
        write(lanes, mask, function(*(read(lanes) for read in reads)))

    return act


def integer_add(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    """`add` and `sub`, with `.sat` for s32."""
    operand_count(ins, 3)
    function: Callable[..., Any] = np.add if ins.opcode == "add" else np.subtract
    if kind.name == "s32" and modifiers.has("sat"):
        exact = function

        def function(a: Array, b: Array) -> Any:
            total = exact(np.asarray(a, np.int64), np.asarray(b, np.int64))
            return np.clip(total, -(2**31), 2**31 - 1).astype(np.int32)

    modifiers.done()
    return elementwise(ins, kernel, kind, kind, function)


def product(kind: Type, part: str) -> tuple[Type, Callable[[Any, Any], Any]]:
    """The type and the function of `mul.lo`, `.hi` or `.wide`."""
    if part == "lo":
        return kind, np.multiply
    if kind.bits == 64:
        return kind, _high_signed_64 if kind.kind == "s" else _high_64
    wide = type_named(f"{kind.kind}{2 * kind.bits}")

    def multiply(a: Any, b: Any) -> Any:
        return np.asarray(a, wide.dtype) * np.asarray(b, wide.dtype)

    if part == "wide":
        return wide, multiply
    return kind, lambda a, b: (multiply(a, b) >> kind.bits).astype(kind.dtype)


def _high_64(a: Any, b: Any) -> Any:
    """The upper half of a product of 64-bit numbers, by halves of 32 bits."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = (a0 * b0 >> half) + (a1 * b0 & low) + (a0 * b1 & low)
    return a1 * b1 + (a1 * b0 >> half) + (a0 * b1 >> half) + (middle >> half)


def _high_signed_64(a: Any, b: Any) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    high = _high_64(a.view(np.uint64), b.view(np.uint64)).view(np.int64)
    return high - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)


def integer_mul(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    operand_count(ins, 3)
    result, multiply = product(kind, modifiers.one_of(("lo", "hi", "wide")))
    modifiers.done()
    return elementwise(ins, kernel, kind, result, multiply)


def integer_mad(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    operand_count(ins, 4)
    result, multiply = product(kind, modifiers.one_of(("lo", "hi", "wide")))
    modifiers.done()
    a, b = (reader(ins, operand, kind, kernel) for operand in ins.operands[1:3])
    c = reader(ins, ins.operands[3], result, kernel)
    write = writer(ins, ins.operands[0], result)

    def act(lanes: Lanes, mask: Mask) -> None:
        write(lanes, mask, multiply(a(lanes), b(lanes)) + c(lanes))

    return act


def truncated_division(a: Any, b: Any) -> tuple[Any, Any]:
    """Quotient and remainder as in C: the quotient is rounded towards zero."""
    quotient = a // b
    quotient = quotient + ((a - quotient * b != 0) & ((a < 0) != (b < 0))).astype(a.dtype)
    return quotient, a - quotient * b


@instruction("rem")
def decode_rem(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    return integer_division(ins, kernel, modifiers, modifiers.type())


def integer_division(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    """`div` and `rem`. PTX does not define division by zero, so it is a fault."""
    operand_count(ins, 3)
    modifiers.done()
    if kind.kind not in "su":
        raise unknown(ins, f"{ins.opcode} of {kind}")
    part = 0 if ins.opcode == "div" else 1
    a, b = (reader(ins, operand, kind, kernel) for operand in ins.operands[1:])
    write = writer(ins, ins.operands[0], kind)

    def act(lanes: Lanes, mask: Mask) -> None:
        divisor = np.asarray(b(lanes))
        zero = divisor == 0
        if (zero if mask is None else zero & mask).any():
            raise KernelFault("division by zero")
        write(lanes, mask, truncated_division(np.asarray(a(lanes)), divisor)[part])

    return act


def integer_extremum(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    operand_count(ins, 3)
    modifiers.done()
    function = np.minimum if ins.opcode == "min" else np.maximum
    return elementwise(ins, kernel, kind, kind, function)


def integer_sign(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    """`neg` and `abs`."""
    operand_count(ins, 2)
    modifiers.done()
    if kind.kind != "s":
        raise unknown(ins, f"{ins.opcode} of {kind}")
    function = np.negative if ins.opcode == "neg" else np.abs
    return elementwise(ins, kernel, kind, kind, function)


_LOGIC: dict[str, tuple[int, Callable[..., Any]]] = {
    "and": (3, np.bitwise_and),
    "or": (3, np.bitwise_or),
    "xor": (3, np.bitwise_xor),
    "not": (2, np.invert),
}


@instruction(*_LOGIC)
def decode_logic(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()
    if kind.kind not in ("b", "pred"):
        raise unknown(ins, f"{ins.opcode} of {kind}")
    count, function = _LOGIC[ins.opcode]
    operand_count(ins, count)
    return elementwise(ins, kernel, kind, kind, function)


@instruction("shl", "shr")
def decode_shift(ins: Instruction, kernel: Kernel) -> Action:
    """Amounts larger than the width shift out all bits."""
    operand_count(ins, 3)
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()
    value = reader(ins, ins.operands[1], kind, kernel)
    amount = reader(ins, ins.operands[2], type_named("u32"), kernel)
    write = writer(ins, ins.operands[0], kind)
    arithmetic, left = kind.kind == "s" and ins.opcode == "shr", ins.opcode == "shl"
    last = np.uint32(kind.bits - 1)

    def act(lanes: Lanes, mask: Mask) -> None:
        by = np.asarray(amount(lanes))
        a = np.asarray(value(lanes))
        inside = np.minimum(by, last).astype(a.dtype)
        shifted = a << inside if left else a >> inside
        if not arithmetic and (by > last).any():
            shifted = np.where(by > last, a.dtype.type(0), shifted)
        write(lanes, mask, shifted)

    return act


@instruction("shf")
def decode_funnel(ins: Instruction, kernel: Kernel) -> Action:
    """32 of the 64 bits of two registers: `shf.l` counts from the top, `shf.r` from the bottom."""
    operand_count(ins, 4)
    modifiers = Modifiers(ins)
    left = modifiers.one_of(("l", "r")) == "l"
    wraps = modifiers.one_of(("wrap", "clamp")) == "wrap"
    kind = modifiers.type()
    modifiers.done()
    if kind.name != "b32":
        raise unknown(ins, f"shf of {kind}")

    def funnel(low: Any, high: Any, amount: Any) -> Any:
        by = (amount & 31 if wraps else np.minimum(amount, 32)).astype(np.uint64)
        both = (np.asarray(high, np.uint64) << np.uint64(32)) | np.asarray(low, np.uint64)
        moved = (both << by) >> np.uint64(32) if left else both >> by
        return moved.astype(np.uint32)

    return elementwise(ins, kernel, kind, kind, funnel)


@instruction("bfe")
def decode_bit_field_extract(ins: Instruction, kernel: Kernel) -> Action:
    operand_count(ins, 4)
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()
    if kind.kind not in "su" or kind.bits < 32:
        raise unknown(ins, f"bfe of {kind}")
    value = reader(ins, ins.operands[1], kind, kernel)
    place, length = (reader(ins, o, type_named("u32"), kernel) for o in ins.operands[2:])
    write = writer(ins, ins.operands[0], kind)
    top = kind.bits - 1

    def act(lanes: Lanes, mask: Mask) -> None:
        a = np.asarray(value(lanes))
        bits = a.view(kind.unsigned)
        first = np.asarray(place(lanes)).astype(np.int64) & 0xFF
        count = np.asarray(length(lanes)).astype(np.int64) & 0xFF
        by = np.minimum(first, top).astype(kind.unsigned)
        inside = np.where(first > top, kind.unsigned(0), ~kind.unsigned(0) >> by)
        inside = inside & _ones(count, kind)
        field = (bits >> by) & inside
        if kind.kind == "s":  # extended by the field's last bit that is in the value
            last = np.clip(first + count - 1, 0, top).astype(kind.unsigned)
            sign = ((bits >> last) & kind.unsigned(1) == 1) & (count > 0)
            field = np.where(sign, field | ~inside, field)
        write(lanes, mask, field)

    return act


def _ones(count: Array, kind: Type) -> Array:
    """Numbers whose lowest `count` bits are ones."""
    capped = np.minimum(count, kind.bits - 1).astype(kind.unsigned)
    ones = (kind.unsigned(1) << capped) - kind.unsigned(1)
    return np.where(count >= kind.bits, ~kind.unsigned(0), ones)


@instruction("bfi")
def decode_bit_field_insert(ins: Instruction, kernel: Kernel) -> Action:
    operand_count(ins, 5)
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()
    if kind.kind != "b" or kind.bits < 32:
        raise unknown(ins, f"bfi of {kind}")
    source, target = (reader(ins, operand, kind, kernel) for operand in ins.operands[1:3])
    place, length = (reader(ins, o, type_named("u32"), kernel) for o in ins.operands[3:])
    write = writer(ins, ins.operands[0], kind)
    unsigned, top = kind.unsigned, kind.bits - 1

    def act(lanes: Lanes, mask: Mask) -> None:
        first = np.asarray(place(lanes)).astype(np.int64) & 0xFF
        count = np.asarray(length(lanes)).astype(np.int64) & 0xFF
        by = np.minimum(first, top).astype(unsigned)
        ones = np.where(first > top, unsigned(0), _ones(count, kind) << by)
        moved = (source(lanes) << by) & ones
        write(lanes, mask, (target(lanes) & ~ones) | moved)

    return act


@instruction("prmt")
def decode_permute(ins: Instruction, kernel: Kernel) -> Action:
    """Four bytes out of eight, each chosen by a nibble; its top bit selects copies of the sign."""
    operand_count(ins, 4)
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()  # the modes .f4e and so on are not emitted
    if kind.name != "b32":
        raise unknown(ins, f"prmt of {kind}")

    def permute(a: Any, b: Any, selector: Any) -> Any:
        both = (np.asarray(b, np.uint64) << np.uint64(32)) | np.asarray(a, np.uint64)
        selector = np.asarray(selector, np.uint64)
        result = np.uint64(0)
        for number in range(4):
            nibble = (selector >> np.uint64(4 * number)) & np.uint64(15)
            byte = (both >> (np.uint64(8) * (nibble & np.uint64(7)))) & np.uint64(0xFF)
            sign = np.where(byte >> np.uint64(7), np.uint64(0xFF), np.uint64(0))
            byte = np.where(nibble >> np.uint64(3), sign, byte)
            result = result | (byte << np.uint64(8 * number))
        return result.astype(np.uint32)

    return elementwise(ins, kernel, kind, kind, permute)


@instruction("lop3")
def decode_lop3(ins: Instruction, kernel: Kernel) -> Action:
    """Any function of three bits, by its truth table."""
    operand_count(ins, 5)
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()
    operands = [reader(ins, operand, kind, kernel) for operand in ins.operands[1:4]]
    table = reader(ins, ins.operands[4], type_named("u32"), kernel)
    write = writer(ins, ins.operands[0], kind)

    def act(lanes: Lanes, mask: Mask) -> None:
        a, b, c = (read(lanes) for read in operands)
        rows = int(table(lanes))
        result = np.zeros(lanes.size, np.uint32)
        for row in range(8):
            if rows >> row & 1:
                result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        write(lanes, mask, result)

    return act


@instruction("popc", "clz", "brev", "bfind")
def decode_count(ins: Instruction, kernel: Kernel) -> Action:
    """The number of ones or of leading zeros, the reversed bits, or the position of the top bit."""
    operand_count(ins, 2)
    modifiers = Modifiers(ins)
    shift = ins.opcode == "bfind" and modifiers.has("shiftamt")
    kind = modifiers.type()
    modifiers.done()
    if kind.bits < 32:
        raise unknown(ins, f"{ins.opcode} of {kind}")
    result = kind if ins.opcode == "brev" else type_named("u32")

    def count(value: Any) -> Any:
        value = np.asarray(value)
        if ins.opcode == "bfind" and kind.kind == "s":
            value = np.where(value < 0, ~value, value)
        bits = np.atleast_1d(value).view(kind.unsigned)
        if ins.opcode == "popc":
            return np.bitwise_count(bits).astype(np.uint32)
        if ins.opcode == "brev":
            rows = np.unpackbits(
                bits.astype(f">u{kind.size}").view(np.uint8).reshape(-1, kind.size), axis=1
            )
            return (
                np.packbits(rows[:, ::-1], axis=1).view(f">u{kind.size}")[:, 0].astype(bits.dtype)
            )
        top = np.full(bits.shape, 0xFFFFFFFF, np.uint32)
        for place in range(kind.bits):
            top = np.where(bits >> kind.unsigned(place) & kind.unsigned(1), np.uint32(place), top)
        if ins.opcode == "clz":
            return np.where(bits == 0, np.uint32(kind.bits), np.uint32(kind.bits - 1) - top)
        return np.where(bits == 0, top, np.uint32(kind.bits - 1) - top) if shift else top

    return elementwise(ins, kernel, kind, result, count)
