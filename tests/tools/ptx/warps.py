"""Instructions that the threads of a warp execute together: shuffles, votes, reductions."""

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
from .floats import extremum
from .lanes import WARP, Lanes, Mask
from .parser import Instruction, Kernel, Pair
from .types import Array, Type, type_named

_U32, _PRED = type_named("u32"), type_named("pred")


@instruction("shfl")
def decode_shfl(ins: Instruction, kernel: Kernel) -> Action:
    operand_count(ins, 5)
    modifiers = Modifiers(ins)
    modifiers.one_of(("sync",))
    mode = modifiers.one_of(("up", "down", "bfly", "idx"))
    kind = modifiers.type()
    modifiers.done()
    if kind.name != "b32":
        raise unknown(ins, f"shfl of {kind}")
    target = ins.operands[0]
    pair = (target.first, target.second) if isinstance(target, Pair) else (target,)
    write = writer(ins, pair[0], kind)
    write_inside = writer(ins, pair[1], _PRED) if len(pair) == 2 else None
    value = reader(ins, ins.operands[1], kind, kernel)
    distance, clamp, members = (reader(ins, o, _U32, kernel) for o in ins.operands[2:])

    def act(lanes: Lanes, mask: Mask) -> None:
        lanes.require_members(mask, over_lanes(lanes, members(lanes)), "shfl")
        lane = lanes.specials["%laneid"].astype(np.int64)
        by = np.asarray(distance(lanes)).astype(np.int64) & 31
        limits = np.asarray(clamp(lanes)).astype(np.int64)
        segment, last = limits >> 8 & 31, limits & 31
        low, high = lane & segment, (lane & segment) | (last & ~segment)
        if mode == "up":
            source = lane - by
            inside = source >= high
        else:
            source = {"down": lane + by, "bfly": lane ^ by, "idx": low | (by & ~segment)}[mode]
            inside = source <= high
        source = np.where(inside, source, lane)
        first = np.arange(lanes.size) // WARP * WARP
        write(lanes, mask, over_lanes(lanes, value(lanes))[first + source])
        if write_inside is not None:
            write_inside(lanes, mask, inside)

    return act


@instruction("vote")
def decode_vote(ins: Instruction, kernel: Kernel) -> Action:
    operand_count(ins, 3)
    modifiers = Modifiers(ins)
    modifiers.one_of(("sync",))
    mode = modifiers.one_of(("ballot", "all", "any", "uni"))
    kind = modifiers.type()
    modifiers.done()
    if kind.name != ("b32" if mode == "ballot" else "pred"):
        raise unknown(ins, f"vote.{mode} of {kind}")
    write = writer(ins, ins.operands[0], kind)
    voice = reader(ins, ins.operands[1], _PRED, kernel)
    members = reader(ins, ins.operands[2], _U32, kernel)

    def act(lanes: Lanes, mask: Mask) -> None:
        lanes.require_members(mask, over_lanes(lanes, members(lanes)), "vote")
        active = np.ones(lanes.size, np.bool_) if mask is None else mask
        yes = _ballot(lanes, over_lanes(lanes, voice(lanes)) & active)
        everyone = _ballot(lanes, active)
        result = {
            "ballot": yes,
            "all": yes == everyone,
            "any": yes != 0,
            "uni": (yes == everyone) | (yes == 0),
        }[mode]
        write(lanes, mask, result)

    return act


def _ballot(lanes: Lanes, voices: Array) -> Array:
    """A number with one bit per lane, the same number for all lanes of a warp."""
    bits = voices.astype(np.uint32) << lanes.specials["%laneid"]
    return np.repeat(np.bitwise_or.reduce(bits.reshape(-1, WARP), axis=1), WARP)


@instruction("activemask")
def decode_activemask(ins: Instruction, kernel: Kernel) -> Action:
    operand_count(ins, 1)
    modifiers = Modifiers(ins)
    kind = modifiers.type()
    modifiers.done()
    write = writer(ins, ins.operands[0], kind)

    def act(lanes: Lanes, mask: Mask) -> None:
        active = np.ones(lanes.size, np.bool_) if mask is None else mask
        write(lanes, mask, _ballot(lanes, active))

    return act


@instruction("elect")
def decode_elect(ins: Instruction, kernel: Kernel) -> Action:
    """`elect.sync d|p, members`: the first member is elected."""
    operand_count(ins, 2)
    modifiers = Modifiers(ins)
    modifiers.one_of(("sync",))
    modifiers.done()
    target = ins.operands[0]
    if not isinstance(target, Pair):
        raise unknown(ins, f"elect to {target}")
    write, write_elected = writer(ins, target.first, _U32), writer(ins, target.second, _PRED)
    members = reader(ins, ins.operands[1], _U32, kernel)

    def act(lanes: Lanes, mask: Mask) -> None:
        named = over_lanes(lanes, members(lanes))
        lanes.require_members(mask, named, "elect")
        leader = np.bitwise_count((named & -named.astype(np.int32).view(np.uint32)) - np.uint32(1))
        leader = leader.astype(np.uint32)
        write(lanes, mask, leader)
        write_elected(lanes, mask, lanes.specials["%laneid"] == leader)

    return act


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda rows: rows.sum(axis=1, dtype=rows.dtype),
    "min": lambda rows: rows.min(axis=1),
    "max": lambda rows: rows.max(axis=1),
    "and": lambda rows: np.bitwise_and.reduce(rows, axis=1),
    "or": lambda rows: np.bitwise_or.reduce(rows, axis=1),
    "xor": lambda rows: np.bitwise_xor.reduce(rows, axis=1),
}


@instruction("redux")
def decode_redux(ins: Instruction, kernel: Kernel) -> Action:
    """Reduces over the threads of a warp that take part; f32 has the NaN rules of min and max."""
    operand_count(ins, 3)
    modifiers = Modifiers(ins)
    modifiers.one_of(("sync",))
    name = modifiers.one_of(tuple(_REDUCTIONS))
    propagate = modifiers.has("NaN")
    kind = modifiers.type()
    modifiers.done()
    if kind.bits != 32 or kind.count > 1 or (kind.is_float and name not in ("min", "max")):
        raise unknown(ins, f"redux.{name} of {kind}")
    if (kind.kind == "b") != (name in ("and", "or", "xor")) or (propagate and not kind.is_float):
        raise unknown(ins, f"redux.{name} of {kind}")
    write = writer(ins, ins.operands[0], kind)
    value = reader(ins, ins.operands[1], kind, kernel)
    members = reader(ins, ins.operands[2], _U32, kernel)

    def act(lanes: Lanes, mask: Mask) -> None:
        named = over_lanes(lanes, members(lanes))
        lanes.require_members(mask, named, "redux")
        rows = over_lanes(lanes, value(lanes)).reshape(-1, WARP)
        active = np.ones(lanes.size, np.bool_) if mask is None else mask
        result = np.zeros(len(rows), rows.dtype)
        for there in np.unique(active.reshape(-1, WARP), axis=0):
            if there.any():
                warps = (active.reshape(-1, WARP) == there).all(axis=1)
                result[warps] = _reduce(rows[warps][:, there], name, kind, propagate=propagate)
        write(lanes, mask, np.repeat(result, WARP))

    return act


def _reduce(rows: Array, name: str, kind: Type, *, propagate: bool) -> Array:
    if not kind.is_float:
        result: Array = _REDUCTIONS[name](rows)
        return result
    combine = extremum(name, kind, propagate=propagate)
    bits = np.ascontiguousarray(rows).view(np.uint32)
    total = combine(bits[:, 0], bits[:, 0])  # a single NaN becomes canonical, too
    for number in range(1, bits.shape[1]):
        total = combine(total, bits[:, number])
    return total.view(np.float32)
