"""Loads, stores, atomics, asynchronous copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .decode import (
    Action,
    Modifiers,
    elements,
    instruction,
    operand_count,
    over_lanes,
    reader,
    unknown,
    writer,
)
from .errors import KernelFault
from .lanes import Lanes, Mask
from .parser import Address, Immediate, Instruction, Kernel, Operand, Symbol
from .types import Array, Type, type_named

# Cache hints and memory orders. They do not affect values if no barrier is missing, which the
# memory checks.
_HINTS = (
    *("ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc"),
    *("weak", "relaxed", "acquire", "release", "acq_rel", "volatile"),
    *("cta", "cluster", "gpu", "sys"),
    *(f"L1::{hint}" for hint in ("evict_normal", "evict_first", "evict_last", "no_allocate")),
    *("L1::evict_unchanged", "L2::64B", "L2::128B", "L2::256B"),
)


def take_hints(modifiers: Modifiers) -> None:
    for hint in _HINTS:
        modifiers.has(hint)


def state_space(modifiers: Modifiers) -> str:
    """The state space: global (also for generic addresses, see `cvta`) or shared."""
    space = modifiers.one_of(("global", "shared", "shared::cta"), default="global")
    return space.partition("::")[0]


def address_of(ins: Instruction, operand: Operand, kernel: Kernel) -> Callable[[Lanes], Array]:
    """A function that returns the byte address of every lane, int64."""
    if not isinstance(operand, Address):
        raise unknown(ins, f"address {operand}")
    offset = np.int64(operand.offset)
    base = operand.base
    if isinstance(base, Symbol):
        if base.name not in kernel.shared:
            raise unknown(ins, f"variable {base.name}")
        place = kernel.shared[base.name] + operand.offset
        return lambda lanes: np.full(lanes.size, place, np.int64)
    if isinstance(base, Immediate):
        return lambda lanes: np.full(lanes.size, base.value + operand.offset, np.int64)
    read = reader(ins, base, type_named(f"u{base.type.bits}"), kernel)
    if offset:
        return lambda lanes: read(lanes).astype(np.int64) + offset
    return lambda lanes: read(lanes).astype(np.int64)


def vector_count(modifiers: Modifiers) -> int:
    return int(modifiers.one_of(("v2", "v4", "v8"), default="v1")[1:])


def without_cache_policy(ins: Instruction, modifiers: Modifiers) -> tuple[Operand, ...]:
    """The operands without the last one if `.L2::cache_hint` has added it."""
    return ins.operands[:-1] if modifiers.has("L2::cache_hint") else ins.operands


@instruction("createpolicy")
def decode_createpolicy(ins: Instruction, kernel: Kernel) -> Action:
    """Writes an opaque number, which `.L2::cache_hint` takes."""
    write = writer(ins, ins.operands[0], type_named("b64"))
    return lambda lanes, mask: write(lanes, mask, np.uint64(0))


def to_elements(kind: Type) -> Type:
    """The type of elements in memory: bits, or a signed type, which registers extend by sign."""
    return kind if kind.kind == "s" else type_named(f"b{kind.bits}")


@instruction("ld")
def decode_ld(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    operands = without_cache_policy(ins, modifiers)
    kind = to_elements(modifiers.type())
    if modifiers.has("param"):
        modifiers.done()
        return _ld_param(ins, kernel, kind)
    count, space = vector_count(modifiers), state_space(modifiers)
    take_hints(modifiers)
    modifiers.done()
    targets = elements(operands[0])
    if len(operands) != 2 or len(targets) != count:
        raise unknown(ins, f"{len(targets)} registers for a vector of {count}")
    writes = [writer(ins, target, kind) for target in targets]
    address = address_of(ins, operands[1], kernel)

    def act(lanes: Lanes, mask: Mask) -> None:
        found = load(lanes, mask, space, address(lanes), kind.size, count)
        for number, write in enumerate(writes):
            write(lanes, mask, found[:, number])

    return act


def load(lanes: Lanes, mask: Mask, space: str, addresses: Array, size: int, count: int) -> Array:
    """The values as `[all lanes, count]`; zeros where the mask is not set."""
    where = lanes.indices(mask)
    if space == "shared":
        found = lanes.shared.read(lanes.access(where), addresses[where], size, count)
    else:
        found = lanes.memory.read(addresses[where], size, count)
    if mask is None:
        return found
    result = np.zeros((lanes.size, count), found.dtype)
    result[where] = found
    return result


def store(lanes: Lanes, mask: Mask, space: str, addresses: Array, size: int, data: Array) -> None:
    """`data`: unsigned integers `[all lanes, count]`."""
    where = lanes.indices(mask)
    count = data.shape[1]
    if space == "shared":
        access = lanes.access(where)
        lanes.shared.write(access, addresses[where], size, count, data[where])
    else:
        lanes.memory.write(addresses[where], size, count, data[where])


def _ld_param(ins: Instruction, kernel: Kernel, kind: Type) -> Action:
    target, source = ins.operands
    if not isinstance(source, Address) or not isinstance(source.base, Symbol) or source.offset:
        raise unknown(ins, f"parameter {source}")
    name = source.base.name
    declared = {parameter.name: parameter.type for parameter in kernel.parameters}
    if name not in declared or declared[name].bits != kind.bits:
        raise unknown(ins, f"parameter {name} as {kind}")
    write = writer(ins, target, kind)

    def act(lanes: Lanes, mask: Mask) -> None:
        value = lanes.parameters[name] & ((1 << kind.bits) - 1)
        write(lanes, mask, np.full(lanes.size, value, kind.unsigned))

    return act


@instruction("st")
def decode_st(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    operands = without_cache_policy(ins, modifiers)
    kind = type_named(f"b{modifiers.type().bits}")
    count, space = vector_count(modifiers), state_space(modifiers)
    take_hints(modifiers)
    modifiers.done()
    sources = elements(operands[1])
    if len(operands) != 2 or len(sources) != count:
        raise unknown(ins, f"{len(sources)} registers for a vector of {count}")
    reads = [reader(ins, source, kind, kernel) for source in sources]
    address = address_of(ins, operands[0], kernel)

    def act(lanes: Lanes, mask: Mask) -> None:
        data = np.stack([over_lanes(lanes, read(lanes)) for read in reads], axis=1)
        store(lanes, mask, space, address(lanes), kind.size, data)

    return act


_ATOMIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda old, new: old + new,
    "min": min,
    "max": max,
    "and": lambda old, new: old & new,
    "or": lambda old, new: old | new,
    "xor": lambda old, new: old ^ new,
    "exch": lambda old, new: new,
}


@instruction("atom", "red")
def decode_atomic(ins: Instruction, kernel: Kernel) -> Action:
    """Lanes act one after another, in the order of their numbers, which PTX allows."""
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    space = state_space(modifiers)
    name = modifiers.one_of((*_ATOMIC, "cas"))
    take_hints(modifiers)
    modifiers.done()
    returns = ins.opcode == "atom"
    operand_count(ins, returns + 2 + (name == "cas"))
    if kind.kind == "bf" or kind.count > 1:
        raise unknown(ins, f"{ins.opcode} of {kind}")
    operands = ins.operands[1:] if returns else ins.operands
    write = writer(ins, ins.operands[0], kind) if returns else None
    address = address_of(ins, operands[0], kernel)
    reads = [reader(ins, operand, kind, kernel) for operand in operands[1:]]

    def act(lanes: Lanes, mask: Mask) -> None:
        where = lanes.indices(mask)
        places = address(lanes)[where]
        news = [over_lanes(lanes, read(lanes))[where] for read in reads]
        if space == "shared":
            places = lanes.shared.begin_atomic(lanes.access(where), places, kind.size)
        before = _take_turns(lanes, space, places, news, name, kind)
        if write is not None:
            result = np.zeros(lanes.size, kind.dtype)
            result[where] = before
            write(lanes, mask, result)

    return act


def _take_turns(
    lanes: Lanes, space: str, places: Array, news: list[Array], name: str, kind: Type
) -> Array:
    """Change the places lane by lane; returns the value that each lane found before its change."""
    distinct, index = np.unique(places, return_inverse=True)
    memory = lanes.shared.plain if space == "shared" else lanes.memory
    values = np.ascontiguousarray(memory.read(distinct, kind.size, 1)[:, 0]).view(kind.dtype)
    before = np.zeros(len(places), kind.dtype)
    for lane, place in enumerate(index):
        before[lane] = values[place]
        if name == "cas":
            if values[place] == news[0][lane]:
                values[place] = news[1][lane]
        else:
            values[place] = _ATOMIC[name](values[place], news[0][lane])
    memory.write(distinct, kind.size, 1, values.view(kind.unsigned)[:, None])
    return before


@instruction("cp")
def decode_cp_async(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    if not modifiers.has("async"):
        raise unknown(ins, "cp without .async")
    if modifiers.has("commit_group"):
        modifiers.done()
        return lambda lanes, mask: lanes.copies.commit(lanes.indices(mask))
    if modifiers.has("wait_all"):
        modifiers.done()
        return lambda lanes, mask: lanes.copies.wait(lanes, mask, None)
    if modifiers.has("wait_group"):
        modifiers.done()
        operand_count(ins, 1)
        number = ins.operands[0]
        if not isinstance(number, Immediate):
            raise unknown(ins, f"wait_group {number}")
        groups = number.value
        return lambda lanes, mask: lanes.copies.wait(lanes, mask, groups)
    return _copy(ins, kernel, modifiers)


def _copy(ins: Instruction, kernel: Kernel, modifiers: Modifiers) -> Action:
    """`[shared], [global], size{, bytes to read}`; the other bytes become zeros."""
    operands = without_cache_policy(ins, modifiers)
    modifiers.one_of(("shared", "shared::cta"))
    modifiers.one_of(("global",))
    take_hints(modifiers)
    modifiers.done()
    if len(operands) not in (3, 4) or not isinstance(operands[2], Immediate):
        raise unknown(ins, "this form of cp.async")
    size = operands[2].value
    if size not in (4, 8, 16):
        raise unknown(ins, f"cp.async of {size} bytes")
    target, source = (address_of(ins, operand, kernel) for operand in operands[:2])
    amount = reader(ins, operands[3], type_named("u32"), kernel) if len(operands) == 4 else None

    def act(lanes: Lanes, mask: Mask) -> None:
        chosen = np.ones(lanes.size, np.bool_) if mask is None else mask
        lanes_here = np.flatnonzero(chosen)
        data = np.zeros((len(lanes_here), size // 4), np.uint32)
        reads = np.full(len(lanes_here), size, np.uint32)
        if amount is not None:
            reads = over_lanes(lanes, amount(lanes))[lanes_here]
        if not np.isin(reads, (0, size)).all():
            raise KernelFault("cp.async that reads a part is not known to the emulator")
        full = reads == size
        if full.any():
            data[full] = lanes.memory.read(source(lanes)[lanes_here][full], 4, size // 4)
            misaligned = source(lanes)[lanes_here][full] % size
            if misaligned.any():
                raise KernelFault(f"misaligned read of {size} bytes")
        places = target(lanes)[lanes_here]
        lanes.shared.reserve(lanes.access(lanes_here), places, size)
        lanes.copies.start(lanes_here, places, data.view(np.uint8).reshape(len(data), size))

    return act


@instruction("fence", "membar")
def decode_fence(ins: Instruction, kernel: Kernel) -> Action:
    """Orders accesses. It does nothing here: each access ends before the next one begins."""
    modifiers = Modifiers(ins)
    for name in ("sc", "acq_rel", "proxy", "async", "shared::cta", "global", "cta", "gpu", "gl"):
        modifiers.has(name)
    modifiers.done()
    return lambda lanes, mask: None


def widths(kernel: Kernel) -> list[int]:
    """The sizes in bytes of all elements that the kernel's instructions access in shared memory."""
    found = []
    for ins in kernel.instructions:
        spaces = {"shared", "shared::cta"} & set(ins.modifiers)
        if ins.opcode in ("ld", "st", "atom", "red") and spaces:
            found.append(Modifiers(ins).type().size)
        elif ins.opcode in ("cp", "ldmatrix", "stmatrix", "wgmma"):
            found.append(4)
    return found
