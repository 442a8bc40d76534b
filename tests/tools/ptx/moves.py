"""Moves, conversions, comparisons, selections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .decode import (
    Action,
    Modifiers,
    instruction,
    operand_count,
    over_lanes,
    reader,
    unknown,
    writer,
)
from .lanes import Lanes, Mask
from .parser import Instruction, Kernel, Pair, Vector
from .types import Array, Type, flush_subnormals, narrow, type_named, widen

Function = Callable[..., Any]


@instruction("mov")
def decode_mov(ins: Instruction, kernel: Kernel) -> Action:
    """Copies a register, splits one (`{a, b}, c`), or joins several (`c, {a, b}`)."""
    operand_count(ins, 2)
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()
    target, source = ins.operands
    if isinstance(target, Vector):
        part = type_named(f"b{kind.bits // len(target.items)}")
        read = reader(ins, source, type_named(f"b{kind.bits}"), kernel)
        writes = [writer(ins, item, part) for item in target.items]

        def split(lanes: Lanes, mask: Mask) -> None:
            value = np.asarray(read(lanes))
            for number, write in enumerate(writes):
                shift = value.dtype.type(part.bits * number)
                write(lanes, mask, (value >> shift).astype(part.unsigned))

        return split
    write = writer(ins, target, kind)
    if isinstance(source, Vector):
        part = type_named(f"b{kind.bits // len(source.items)}")
        # Compilers fill packed registers up with unwritten ones, and don't use these parts.
        reads = [reader(ins, item, part, kernel, unwritten=True) for item in source.items]

        def join(lanes: Lanes, mask: Mask) -> None:
            value = np.zeros((), kind.unsigned)
            for number, read in enumerate(reads):
                shift = kind.unsigned(part.bits * number)
                value = value | (np.asarray(read(lanes)).astype(kind.unsigned) << shift)
            write(lanes, mask, value)

        return join
    read = reader(ins, source, kind, kernel)
    return lambda lanes, mask: write(lanes, mask, read(lanes))


@instruction("cvta")
def decode_cvta(ins: Instruction, kernel: Kernel) -> Action:
    """Generic addresses are global ones here; conversions of others are not supported."""
    operand_count(ins, 2)
    modifiers = Modifiers(ins)
    modifiers.has("to")
    modifiers.one_of(("global",))
    kind = modifiers.type()
    modifiers.done()
    read, write = reader(ins, ins.operands[1], kind, kernel), writer(ins, ins.operands[0], kind)
    return lambda lanes, mask: write(lanes, mask, read(lanes))


@instruction("selp")
def decode_selp(ins: Instruction, kernel: Kernel) -> Action:
    operand_count(ins, 4)
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()
    a, b = (reader(ins, operand, kind, kernel) for operand in ins.operands[1:3])
    chosen = reader(ins, ins.operands[3], type_named("pred"), kernel)
    write = writer(ins, ins.operands[0], kind)

    def act(lanes: Lanes, mask: Mask) -> None:
        write(lanes, mask, np.where(chosen(lanes), a(lanes), b(lanes)))

    return act


_ORDERED: dict[str, Function] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_COMBINE: dict[str, Function] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}


def comparison(name: str, *, floats: bool) -> Function | None:
    """The comparison of this name in `setp`; None if the type has no such comparison."""
    if not floats:
        return _ORDERED.get(_UNSIGNED.get(name, name))

    def unordered(a: Any, b: Any) -> Any:
        return np.isnan(a) | np.isnan(b)

    if name == "nan":
        return unordered
    if name == "num":
        return lambda a, b: ~unordered(a, b)
    if name in _ORDERED:  # false for NaN, for which NumPy's != is true
        ordered = _ORDERED[name]
        if name == "ne":
            return lambda a, b: ordered(a, b) & ~unordered(a, b)
        return ordered
    if name.endswith("u") and name[:-1] in _ORDERED:
        base = _ORDERED[name[:-1]]
        return lambda a, b: base(a, b) | unordered(a, b)
    return None


_COMPARISONS = (*_ORDERED, *_UNSIGNED, "nan", "num", *(f"{name}u" for name in _ORDERED))


@instruction("setp")
def decode_setp(ins: Instruction, kernel: Kernel) -> Action:
    """One predicate, or two (`p|q`: the comparison and its opposite), combined with a third."""
    modifiers = Modifiers(ins)
    name = modifiers.one_of(_COMPARISONS)
    combine = modifiers.one_of(tuple(_COMBINE), default="")
    flush = modifiers.has("ftz")
    kind = modifiers.type()
    modifiers.done()
    operand_count(ins, 4 if combine else 3)
    if kind.kind == "b" and name not in ("eq", "ne"):
        raise unknown(ins, f".{name} of {kind}")
    compare = comparison(name, floats=kind.is_float)
    if compare is None or kind.count > 1 or (flush and kind.name != "f32"):
        raise unknown(ins, f"setp.{name} of {kind}")
    source = type_named(f"u{kind.bits}") if name in _UNSIGNED else kind
    a, b = (reader(ins, operand, source, kernel) for operand in ins.operands[1:3])
    predicate = type_named("pred")
    third = reader(ins, ins.operands[3], predicate, kernel) if combine else None
    target = ins.operands[0]
    pair = (target.first, target.second) if isinstance(target, Pair) else (target,)
    writes = [writer(ins, operand, predicate) for operand in pair]

    def act(lanes: Lanes, mask: Mask) -> None:
        x, y = a(lanes), b(lanes)
        if kind.kind == "bf":
            x, y = widen(np.asarray(x), kind), widen(np.asarray(y), kind)
        if flush:
            x, y = flush_subnormals(np.asarray(x)), flush_subnormals(np.asarray(y))
        result = np.asarray(compare(x, y))
        for number, write in enumerate(writes):
            value = ~result if number else result
            if third is not None:
                value = np.asarray(_COMBINE[combine](value, third(lanes)))
            write(lanes, mask, value)

    return act


_INTEGRAL: dict[str, Function] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}
_DIRECTED = ("rz", "rm", "rp")


@instruction("cvt")
def decode_cvt(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    if "tf32" in ins.modifiers:
        return _to_tf32(ins, kernel, modifiers)
    source = modifiers.type()
    target = modifiers.type() if modifiers.rest[-1:] != [] else source
    rounding = modifiers.one_of(("rn", *_INTEGRAL, *_DIRECTED), default="")
    flush, saturate = modifiers.has("ftz"), modifiers.has("sat")
    relu, finite = modifiers.has("relu"), modifiers.has("satfinite")
    modifiers.done()
    if flush and "f32" not in (source.name, target.name):
        raise unknown(ins, f".ftz from {source} to {target}")
    if (relu or finite) and target.bits != 16 and target.count == 1:
        raise unknown(ins, f".relu or .satfinite to {target}")
    if target.count == 2:
        if rounding != "rn" or source.name != "f32" or saturate:
            raise unknown(ins, f"cvt from {source} to {target}")
        return _packing(ins, kernel, target, relu=relu, finite=finite)
    operand_count(ins, 2)
    convert = _conversion(ins, source, target, rounding, saturate=saturate)
    read, write = reader(ins, ins.operands[1], source, kernel), writer(ins, ins.operands[0], target)

    def act(lanes: Lanes, mask: Mask) -> None:
        value = over_lanes(lanes, read(lanes))
        if flush and source.name == "f32":
            value = flush_subnormals(value)
        result = convert(value)
        if flush and target.name == "f32":
            result = flush_subnormals(result.view(np.float32))
        if relu or finite:
            result = clamp(result.view(target.unsigned), target, relu=relu, finite=finite)
        write(lanes, mask, result)

    return act


def _to_tf32(ins: Instruction, kernel: Kernel, modifiers: Modifiers) -> Action:
    """`cvt.rna.tf32.f32 d, a`: the nearest number of eleven bits, ties away from zero."""
    for name in ("rna", "tf32", "f32"):
        modifiers.one_of((name,))
    modifiers.done()
    operand_count(ins, 2)
    word = type_named("b32")
    read, write = reader(ins, ins.operands[1], word, kernel), writer(ins, ins.operands[0], word)

    def act(lanes: Lanes, mask: Mask) -> None:
        bits = over_lanes(lanes, read(lanes)).view(np.uint32)
        finite = (bits & np.uint32(0x7F800000)) != np.uint32(0x7F800000)
        rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
        write(lanes, mask, np.where(finite, rounded, bits))

    return act


def _packing(ins: Instruction, kernel: Kernel, target: Type, *, relu: bool, finite: bool) -> Action:
    """`cvt.rn.f16x2.f32 d, high, low`."""
    operand_count(ins, 3)
    reads = [reader(ins, operand, type_named("f32"), kernel) for operand in ins.operands[1:]]
    write, element = writer(ins, ins.operands[0], target), target.element

    def act(lanes: Lanes, mask: Mask) -> None:
        halves = []
        for read in reads:
            bits = narrow(over_lanes(lanes, read(lanes)).astype(np.float64), element)
            halves.append(clamp(bits.view(np.uint16), element, relu=relu, finite=finite))
        high, low = (half.astype(np.uint32) for half in halves)
        write(lanes, mask, (high << np.uint32(16)) | low)

    return act


def clamp(bits: Array, kind: Type, *, relu: bool, finite: bool) -> Array:
    """`.relu`: negative numbers become 0. `.satfinite`: infinities become the largest number."""
    infinity = {"f16": 0x7C00, "bf16": 0x7F80}[kind.name]
    sign, size = bits & np.uint16(0x8000), bits & np.uint16(0x7FFF)
    if finite:
        bits = np.where(size == infinity, sign | np.uint16(infinity - 1), bits)
    if relu:
        bits = np.where((sign != 0) & (size <= infinity), np.uint16(0), bits)
    return bits


def _conversion(
    ins: Instruction, source: Type, target: Type, rounding: str, *, saturate: bool
) -> Callable[[Array], Array]:
    """A function that takes the source's dtype and returns the target's dtype or bits."""
    refused = unknown(ins, f"cvt{'.' if rounding else ''}{rounding} from {source} to {target}")
    if (
        source.count > 1
        or "b" in (source.kind, target.kind)
        or "pred" in (source.kind, target.kind)
    ):
        raise refused
    if not source.is_float and not target.is_float:
        if rounding:
            raise refused
        return _between_integers(source, target, saturate=saturate)
    if source.is_float and not target.is_float:
        if rounding not in _INTEGRAL:
            raise refused
        return lambda value: _to_integer(
            widen(value.view(source.unsigned), source), target, rounding
        )
    if not source.is_float:
        if rounding != "rn" or saturate:
            raise refused
        if source.bits == 64 and target.bits < 32:  # an intermediate fp64 would round twice
            raise refused
        return _from_integer(source, target)
    if rounding in _DIRECTED:
        if (source.name, target.name) not in (("f32", "f16"), ("f32", "bf16"), ("f64", "f32")):
            raise refused
        return lambda value: directed(widen(value.view(source.unsigned), source), target, rounding)
    narrows = target.bits < source.bits or (target.bits == source.bits and target != source)
    if (narrows and rounding != "rn") or (rounding in _INTEGRAL and source != target):
        raise refused
    return lambda value: _between_floats(value, source, target, rounding, saturate=saturate)


def _between_floats(
    value: Array, source: Type, target: Type, rounding: str, *, saturate: bool
) -> Array:
    wide = widen(value.view(source.unsigned), source)
    if rounding in _INTEGRAL:
        wide = _INTEGRAL[rounding](wide)
    if saturate:
        wide = np.where(np.isnan(wide), 0.0, np.clip(wide, 0.0, 1.0))
    return narrow(wide, target).view(target.dtype)


def _between_integers(source: Type, target: Type, *, saturate: bool) -> Callable[[Array], Array]:
    if not saturate:
        return lambda value: value.astype(target.dtype)
    limits = np.iinfo(target.dtype)
    own = np.iinfo(source.dtype)
    low, high = max(limits.min, own.min), min(limits.max, own.max)
    return lambda value: np.clip(value, low, high).astype(target.dtype)


def _to_integer(wide: Array, target: Type, rounding: str) -> Array:
    """Numbers out of range become the nearest number in range; NaN becomes 0."""
    limits = np.iinfo(target.dtype)
    integral = np.where(np.isnan(wide), 0.0, _INTEGRAL[rounding](wide))
    above, below = integral >= float(limits.max), integral <= float(limits.min)
    result = np.where(above | below, 0.0, integral).astype(target.dtype)
    result = np.where(above, target.dtype(limits.max), result)
    result = np.where(below, target.dtype(limits.min), result)
    return result.astype(target.dtype)


def _from_integer(source: Type, target: Type) -> Callable[[Array], Array]:
    if target.name in ("f32", "f64"):
        return lambda value: value.astype(target.dtype)  # NumPy rounds once, to the nearest
    return lambda value: narrow(value.astype(np.float64), target).view(target.dtype)


def directed(wide: Array, kind: Type, rounding: str) -> Array:
    """fp64 rounded towards zero, down or up, as bits."""
    bits = narrow(wide, kind)
    back = widen(bits, kind)
    # One step is enough: -1 or +1 on the bits, which are ordered by magnitude.
    shrink = {
        "rz": np.abs(back) > np.abs(wide),
        "rm": (back > wide) & (back > 0),
        "rp": (back < wide) & (back < 0),
    }[rounding]
    grow = {
        "rz": np.zeros_like(shrink),
        "rm": (back > wide) & (back <= 0),
        "rp": (back < wide) & (back >= 0),
    }[rounding]
    one, sign = kind.unsigned(1), kind.unsigned(1 << (kind.bits - 1))
    # From zero, the first step leads to the smallest number of the wanted sign.
    start = np.where(back == 0, np.where(wide < 0, sign, kind.unsigned(0)), bits)
    return np.where(shrink, bits - one, np.where(grow, start + one, bits)).astype(kind.unsigned)
