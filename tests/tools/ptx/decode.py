"""Decodes instructions into functions on `Lanes`, once per program: registry and operands.

A family of instructions is a module that registers a decoder for each opcode. A decoder reads the
instruction with `Modifiers` and returns a function of (lanes, mask). It raises
UnknownInstructionError for anything that it does not expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .errors import KernelFault, UnknownInstructionError
from .lanes import Lanes, Mask
from .parser import Immediate, Instruction, Kernel, Operand, Register, Special, Symbol, Vector
from .types import Array, Type, is_type, type_named

Action = Callable[[Lanes, Mask], None]
Decoder = Callable[[Instruction, Kernel], Action]
Read = Callable[[Lanes], Array]
Write = Callable[[Lanes, Mask, Array], None]

DECODERS: dict[str, Decoder] = {}

POISON = {8: 0xA5, 16: 0xDEAD, 32: 0xDEADBEEF, 64: 0xDEADBEEFDEADBEEF}
"""The value of a register in lanes that have not written it."""


def instruction(*opcodes: str) -> Callable[[Decoder], Decoder]:
    """Register a decoder."""

    def register(decoder: Decoder) -> Decoder:
        for opcode in opcodes:
            DECODERS[opcode] = decoder
        return decoder

    return register


def unknown(ins: Instruction, what: str) -> UnknownInstructionError:
    return UnknownInstructionError(f"{what} is not known to the emulator; {ins}")


class Modifiers:
    """An instruction's modifiers. A decoder takes those that it knows; `done` refuses the rest."""

    def __init__(self, ins: Instruction) -> None:
        self.ins = ins
        self.rest = list(ins.modifiers)

    def has(self, name: str) -> bool:
        """Take the modifier; returns True if it was there."""
        if name in self.rest:
            self.rest.remove(name)
            return True
        return False

    def one_of(self, names: Iterable[str], default: str | None = None) -> str:
        """Take the one of these that is there; without a default, one must be there."""
        for name in names:
            if self.has(name):
                return name
        if default is None:
            raise unknown(self.ins, f"{self.ins.opcode} without any of {', '.join(names)}")
        return default

    def type(self) -> Type:
        """Take the last type that is left."""
        for name in reversed(self.rest):
            if is_type(name):
                self.rest.remove(name)
                return type_named(name)
        raise unknown(self.ins, f"{self.ins.opcode} without a type")

    def done(self) -> None:
        if self.rest:
            raise unknown(self.ins, f".{self.rest[0]} on {self.ins.opcode}")


def reader(
    ins: Instruction, operand: Operand, kind: Type, kernel: Kernel, *, unwritten: bool = False
) -> Read:
    """A function that returns the operand in the dtype of `kind`: over all lanes, or as a scalar.

    `unwritten`: the operand may be a register that was never written; its value is then poison.
    """
    dtype = kind.dtype
    if isinstance(operand, Register):
        return _register_reader(ins, operand, kind, unwritten=unwritten)
    if isinstance(operand, Special):
        name = operand.name
        return lambda lanes: lanes.specials[name].astype(dtype)
    if isinstance(operand, Immediate):
        constant = _constant(ins, operand, kind)
        return lambda lanes: constant
    if isinstance(operand, Symbol) and operand.name in kernel.shared:
        place = np.asarray([kernel.shared[operand.name]], kind.unsigned).view(dtype)[0]
        return lambda lanes: place
    raise unknown(ins, f"operand {operand}")


def _register_reader(ins: Instruction, operand: Register, kind: Type, *, unwritten: bool) -> Read:
    index, dtype, unsigned = operand.index, kind.dtype, kind.unsigned

    def bits(lanes: Lanes) -> Array:
        value = lanes.registers[index]
        if value is None:
            if unwritten:
                return np.full(lanes.size, operand.type.unsigned(POISON[operand.type.bits]))
            raise KernelFault(f"read of {operand.name}, which was never written")
        return value

    if operand.type.bits == kind.bits and (operand.type.kind == "pred") == (kind.kind == "pred"):
        if kind.kind == "pred":
            return (lambda lanes: ~bits(lanes)) if operand.negated else bits
        return bits if dtype is unsigned else lambda lanes: bits(lanes).view(dtype)
    if operand.type.bits > kind.bits and "pred" not in (operand.type.kind, kind.kind):
        return lambda lanes: bits(lanes).astype(unsigned).view(dtype)
    raise unknown(ins, f"register {operand.name} of type {operand.type} as {kind}")


def _constant(ins: Instruction, operand: Immediate, kind: Type) -> Any:
    bits = operand.value
    if kind.kind == "pred":
        return np.bool_(bits != 0)
    if operand.float_bits and kind.is_float and operand.float_bits != kind.bits:
        raise unknown(ins, f"a constant of {operand.float_bits} bits as {kind}")
    if not operand.float_bits and kind.kind == "f" and kind.count == 1 and kind.bits > 16:
        return kind.dtype(bits)  # an integer constant for a float operand
    bits &= (1 << kind.bits) - 1
    return np.asarray([bits], kind.unsigned).view(kind.dtype)[0]


def writer(ins: Instruction, operand: Operand, kind: Type) -> Write:
    """A function that writes a value of `kind` (its dtype or bits) where the mask is set.

    A register wider than `kind` is extended as PTX says: by sign for signed types, else by zeros.
    """
    if isinstance(operand, Symbol) and operand.name == "_":
        return lambda lanes, mask, value: None
    if not isinstance(operand, Register) or operand.negated:
        raise unknown(ins, f"destination {operand}")
    index, bits = operand.index, operand.type.unsigned
    if (operand.type.kind == "pred") != (kind.kind == "pred") or operand.type.bits < kind.bits:
        raise unknown(ins, f"register {operand.name} of type {operand.type} for {kind}")
    poison = np.bool_(False) if kind.kind == "pred" else bits(POISON[operand.type.bits])
    wide = operand.type.bits > kind.bits
    extended = np.dtype(f"i{operand.type.size}") if kind.kind == "s" else None

    def write(lanes: Lanes, mask: Mask, value: Array) -> None:
        if wide:
            value = value.view(kind.dtype) if value.ndim else value
            value = value.astype(extended).view(bits) if extended else value.astype(bits)
        elif value.dtype != bits:
            value = value.view(bits)
        if mask is not None:
            old = lanes.registers[index]
            value = np.where(mask, value, poison if old is None else old)
        elif not value.ndim:
            value = np.full(lanes.size, value)
        lanes.registers[index] = value

    return write


def elements(operand: Operand) -> tuple[Operand, ...]:
    """The items of `{a, b}`; for any other operand, the operand itself."""
    return operand.items if isinstance(operand, Vector) else (operand,)


def operand_count(ins: Instruction, *counts: int) -> None:
    """Raise UnknownInstructionError unless the number of operands is one of `counts`."""
    if len(ins.operands) not in counts:
        raise unknown(ins, f"{ins.opcode} with {len(ins.operands)} operands")


def over_lanes(lanes: Lanes, value: Array) -> Array:
    """The value as an array over all lanes, also if it is a scalar."""
    return value if np.ndim(value) else np.full(lanes.size, value)
