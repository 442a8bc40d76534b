"""Float arithmetic, and the opcodes that integers and floats share.

Results are rounded to the nearest, ties to even. Instructions that PTX calls approximate are exact
before that one rounding: they are within the bounds of PTX, but may differ from the hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import integers
from .decode import Action, Modifiers, instruction, operand_count, reader, unknown, writer
from .lanes import Lanes, Mask
from .parser import Instruction, Kernel
from .types import (
    CANONICAL_NAN,
    Array,
    Type,
    flush_subnormals,
    fused_multiply_add,
    narrow,
    round_to_odd_sum,
    type_named,
    widen,
)

Function = Callable[..., Any]

# `_NATIVE` computes in the type itself, where NumPy rounds as PTX does. `_WIDE` computes in fp64,
# so that only the rounding of the result to the type has an effect.
_NATIVE: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "sqrt": np.sqrt,
    "rcp": np.reciprocal,
}
_WIDE: dict[str, Function] = {
    "add": round_to_odd_sum,
    "sub": lambda a, b: round_to_odd_sum(a, -b),
    "mul": np.multiply,
    "fma": lambda a, b, c: round_to_odd_sum(a * b, c),
    "ex2": np.exp2,
    "lg2": np.log2,
    "rsqrt": lambda a: 1.0 / np.sqrt(a),
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}
_APPROXIMATE = ("ex2", "lg2", "rsqrt", "sin", "cos", "tanh")
_OPERANDS = {"add": 3, "sub": 3, "mul": 3, "div": 3, "fma": 4}


@instruction("add", "sub")
def decode_add(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    if kind.name in ("f16", "bf16") and modifiers.has("f32"):
        return _mixed_add(ins, kernel, modifiers, kind)
    if kind.is_float:
        return float_arithmetic(ins, kernel, modifiers, kind)
    return integers.integer_add(ins, kernel, modifiers, kind)


@instruction("mul")
def decode_mul(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    if kind.is_float:
        return float_arithmetic(ins, kernel, modifiers, kind)
    return integers.integer_mul(ins, kernel, modifiers, kind)


@instruction("mad", "fma")
def decode_mad(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    if ins.opcode == "fma" and kind.name in ("f16", "bf16") and modifiers.has("f32"):
        return _mixed_fma(ins, kernel, modifiers, kind)
    if kind.is_float:
        return float_arithmetic(ins, kernel, modifiers, kind)
    if ins.opcode == "fma":
        raise unknown(ins, f"fma of {kind}")
    return integers.integer_mad(ins, kernel, modifiers, kind)


def _mixed_fma(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    """`fma.rn.f32.f16`: factors of a half type, a summand and a result of f32."""
    operand_count(ins, 4)
    modifiers.one_of(("rn",))
    modifiers.done()
    single = type_named("f32")
    factors = [reader(ins, operand, kind, kernel) for operand in ins.operands[1:3]]
    summand = reader(ins, ins.operands[3], single, kernel)
    write = writer(ins, ins.operands[0], single)

    def act(lanes: Lanes, mask: Mask) -> None:
        a, b = (widen(np.asarray(factor(lanes)), kind) for factor in factors)
        total = round_to_odd_sum(a * b, widen(np.asarray(summand(lanes)), single))
        write(lanes, mask, narrow(total, single))

    return act


def _mixed_add(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    """`add.rn.f32.f16`: the first operand of a half type, the second and the result of f32."""
    operand_count(ins, 3)
    modifiers.has("rn")
    modifiers.done()
    single = type_named("f32")
    first = reader(ins, ins.operands[1], kind, kernel)
    second = reader(ins, ins.operands[2], single, kernel)
    write = writer(ins, ins.operands[0], single)
    sign = -1 if ins.opcode == "sub" else 1

    def act(lanes: Lanes, mask: Mask) -> None:
        a, b = widen(np.asarray(first(lanes)), kind), widen(np.asarray(second(lanes)), single)
        write(lanes, mask, narrow(round_to_odd_sum(a, sign * b), single))

    return act


@instruction("div")
def decode_div(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    if kind.is_float:
        return float_arithmetic(ins, kernel, modifiers, kind)
    return integers.integer_division(ins, kernel, modifiers, kind)


@instruction("sqrt", "rcp", *_APPROXIMATE)
def decode_function(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    return float_arithmetic(ins, kernel, modifiers, modifiers.type())


@instruction("min", "max")
def decode_extremum(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    if kind.is_float:
        return _float_extremum(ins, kernel, modifiers, kind)
    return integers.integer_extremum(ins, kernel, modifiers, kind)


@instruction("neg", "abs")
def decode_sign(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    if not kind.is_float:
        return integers.integer_sign(ins, kernel, modifiers, kind)
    operand_count(ins, 2)
    flush = _flush(ins, modifiers, kind)
    modifiers.done()
    sign = kind.unsigned(sum(1 << (kind.element.bits * (i + 1) - 1) for i in range(kind.count)))
    read, write = reader(ins, ins.operands[1], kind, kernel), writer(ins, ins.operands[0], kind)

    def act(lanes: Lanes, mask: Mask) -> None:
        bits = np.asarray(flush(read(lanes))).view(kind.unsigned)
        write(lanes, mask, bits ^ sign if ins.opcode == "neg" else bits & ~sign)

    return act


def _flush(ins: Instruction, modifiers: Modifiers, kind: Type) -> Function:
    """The function for `.ftz` if the instruction has it; otherwise the identity."""
    if not modifiers.has("ftz"):
        return lambda values: values
    if kind.name != "f32":
        raise unknown(ins, f".ftz on {kind}")
    return lambda values: flush_subnormals(np.asarray(values))


def float_arithmetic(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    """Any instruction whose result is a function of floats, rounded."""
    opcode = "fma" if ins.opcode == "mad" else ins.opcode
    operand_count(ins, _OPERANDS.get(opcode, 2))
    if opcode in _APPROXIMATE:
        modifiers.one_of(("approx",))
    elif opcode in ("div", "sqrt", "rcp"):
        modifiers.one_of(("rn", "approx", "full") if opcode == "div" else ("rn", "approx"))
    elif opcode == "fma":
        modifiers.one_of(("rn",))
    else:
        modifiers.has("rn")
    flush, saturate = _flush(ins, modifiers, kind), modifiers.has("sat")
    modifiers.done()
    function = _packed(ins, opcode, kind)
    reads = [reader(ins, operand, kind, kernel) for operand in ins.operands[1:]]
    write = writer(ins, ins.operands[0], kind)

    def act(lanes: Lanes, mask: Mask) -> None:
        result = flush(function(*(flush(read(lanes)) for read in reads)))
        if saturate:
            result = np.where(np.isnan(result), 0, np.clip(result, 0, 1)).astype(kind.dtype)
        write(lanes, mask, result)

    if saturate and (kind.count > 1 or kind.kind == "bf"):
        raise unknown(ins, f".sat on {kind}")
    return act


def _packed(ins: Instruction, opcode: str, kind: Type) -> Function:
    """The function of whole registers; for a packed type, it works element by element."""
    single = _single(ins, opcode, kind.element)
    if kind.count == 1:
        return single
    element = kind.element

    def function(*operands: Any) -> Any:
        parts = zip(*(unpack(np.asarray(operand), kind) for operand in operands), strict=True)
        results = [single(*(part.view(element.dtype) for part in each)) for each in parts]
        return pack([result.view(element.unsigned) for result in results], kind)

    return function


def _single(ins: Instruction, opcode: str, kind: Type) -> Function:
    if kind.name == "f32" and opcode == "fma":
        return lambda a, b, c: fused_multiply_add(np.asarray(a), np.asarray(b), np.asarray(c))
    if kind.name in ("f32", "f64") and opcode in _NATIVE:
        return _NATIVE[opcode]
    if opcode not in _WIDE or kind.name == "f64":
        raise unknown(ins, f"{opcode} of {kind}")

    def function(*operands: Any) -> Any:
        wide = [widen(np.asarray(operand), kind) for operand in operands]
        return narrow(_WIDE[opcode](*wide), kind).view(kind.dtype)

    return function


def unpack(bits: Array, kind: Type) -> list[Array]:
    """A packed register's elements as bits, the lowest first."""
    element = kind.element
    return [
        (bits >> bits.dtype.type(element.bits * i)).astype(element.unsigned)
        for i in range(kind.count)
    ]


def pack(parts: list[Array], kind: Type) -> Array:
    """The reverse of `unpack`."""
    result = np.zeros((), kind.unsigned)
    for number, part in enumerate(parts):
        shift = kind.unsigned(kind.element.bits * number)
        result = result | (np.asarray(part).astype(kind.unsigned) << shift)
    return result


def _float_extremum(ins: Instruction, kernel: Kernel, modifiers: Modifiers, kind: Type) -> Action:
    """`min` or `max` of two or three operands. Ignores NaN without `.NaN`; -0 is less than +0."""
    operand_count(ins, 3, 4)
    flush, propagate = _flush(ins, modifiers, kind), modifiers.has("NaN")
    modifiers.done()
    single = extremum(ins.opcode, kind.element, propagate=propagate)
    reads = [reader(ins, operand, kind, kernel) for operand in ins.operands[1:]]
    write = writer(ins, ins.operands[0], kind)

    def act(lanes: Lanes, mask: Mask) -> None:
        first, *rest = (
            unpack(np.asarray(flush(read(lanes))).view(kind.unsigned), kind) for read in reads
        )
        for other in rest:
            first = [single(a, b) for a, b in zip(first, other, strict=True)]
        write(lanes, mask, pack(first, kind))

    return act


def extremum(opcode: str, kind: Type, *, propagate: bool) -> Callable[[Array, Array], Array]:
    """`min` or `max` of an unpacked float type's bits."""
    nan = kind.unsigned(CANONICAL_NAN[kind.name])

    def of(a: Array, b: Array) -> Array:
        x, y = widen(a, kind), widen(b, kind)
        first = x < y if opcode == "min" else x > y
        result = np.where(first, a, b)
        # Equal numbers differ at most in the sign of zero: a minimum is -0 if either operand is.
        result = np.where(x == y, a | b if opcode == "min" else a & b, result)
        result = np.where(np.isnan(x), b, np.where(np.isnan(y), a, result))
        either, both = np.isnan(x) | np.isnan(y), np.isnan(x) & np.isnan(y)
        return np.where(either if propagate else both, nan, result)

    return of
