"""Matrix products, and their loads and stores: a warp holds a tile in fragments."""

from __future__ import annotations

import numpy as np

from .accesses import address_of
from .decode import Action, Modifiers, elements, instruction, operand_count, reader, unknown, writer
from .errors import KernelFault
from .lanes import WARP, Lanes, Mask
from .parser import Instruction, Kernel
from .types import Array, Type, narrow, type_named, widen

_B32 = type_named("b32")
_GROUP, _MEMBER = np.arange(WARP) // 4, np.arange(WARP) % 4
"""For each lane of a fragment: its row (or column), and its number among the four lanes there."""


@instruction("mma")
def decode_mma(ins: Instruction, kernel: Kernel) -> Action:
    """D = A B + C over a warp: `m16n8k8` and `m16n8k16` of f16 or bf16, `m16n8k4/8` of tf32.

    PTX does not define the order and precision of the sum. Here products are exact, the sum is
    fp64, and it is rounded once.
    """
    operand_count(ins, 4)
    modifiers = Modifiers(ins)
    modifiers.one_of(("sync",))
    modifiers.one_of(("aligned",))
    shape = modifiers.one_of(("m16n8k4", "m16n8k8", "m16n8k16"))
    modifiers.one_of(("row",))
    modifiers.one_of(("col",))
    types = tuple(modifiers.rest)
    modifiers.rest.clear()
    depth = int(shape.partition("k")[2])
    result, left, right, start = types if len(types) == 4 else ("", "", "", "")
    halves = left in ("f16", "bf16") and depth in (8, 16)
    if (
        left != right
        or not (halves or (left == "tf32" and depth in (4, 8)))
        or start != result
        or not (result == "f32" or (result == "f16" and left == "f16"))
    ):
        raise unknown(ins, f"mma of {shape} with {' '.join(types)}")
    a, b, c, d = (elements(ins.operands[number]) for number in (1, 2, 3, 0))
    numbers = _counts(depth, halves=halves, result=result)
    if tuple(map(len, (a, b, c, d))) != numbers:
        raise unknown(ins, f"{shape} with fragments of {[len(each) for each in (a, b, c, d)]}")
    reads = [[reader(ins, register, _B32, kernel) for register in each] for each in (a, b, c)]
    writes = [writer(ins, register, _B32) for register in d]

    def act(lanes: Lanes, mask: Mask) -> None:
        lanes.require_whole_warps(mask, "mma")
        a_bits, b_bits, c_bits = (
            [np.broadcast_to(read(lanes), lanes.size).reshape(-1, WARP) for read in each]
            for each in reads
        )
        if halves:
            kind = type_named(left)
            a_tile, b_tile = halves_of_a(a_bits, kind, depth), _halves_b(b_bits, kind, depth)
        else:
            a_tile, b_tile = tf32_of_a(a_bits, depth), _tf32_b(b_bits, depth)
        total = a_tile @ b_tile + _accumulators(c_bits, result)
        for write, bits in zip(writes, _fragments(total, result), strict=True):
            write(lanes, mask, bits.reshape(-1))

    return act


def _counts(depth: int, *, halves: bool, result: str) -> tuple[int, int, int, int]:
    """The numbers of registers of A, B, C and D."""
    sums = 4 if result == "f32" else 2
    words = depth // 2 if halves else depth  # 32-bit words along the depth
    return words // 2, words // 4, sums, sums


def _two_halves(bits: Array, kind: Type) -> list[Array]:
    return [widen((bits >> np.uint32(shift)).astype(np.uint16), kind) for shift in (0, 16)]


def halves_of_a(bits: list[Array], kind: Type, depth: int) -> Array:
    """`[warps, 16, depth]`; successive registers are first 8 rows apart, then 8 columns."""
    tile = np.zeros((len(bits[0]), 16, depth))
    for number, register in enumerate(bits):
        for half, values in enumerate(_two_halves(register, kind)):
            tile[:, _GROUP + number % 2 * 8, _MEMBER * 2 + half + number // 2 * 8] = values
    return tile


def _halves_b(bits: list[Array], kind: Type, depth: int) -> Array:
    """`[warps, depth, 8]`."""
    tile = np.zeros((len(bits[0]), depth, 8))
    for number, register in enumerate(bits):
        for half, values in enumerate(_two_halves(register, kind)):
            tile[:, _MEMBER * 2 + half + number * 8, _GROUP] = values
    return tile


def tf32(bits: Array) -> Array:
    """The hardware reads the upper 19 bits of an fp32."""
    return np.ascontiguousarray(bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def tf32_of_a(bits: list[Array], depth: int) -> Array:
    tile = np.zeros((len(bits[0]), 16, depth))
    for number, register in enumerate(bits):
        tile[:, _GROUP + number % 2 * 8, _MEMBER + number // 2 * 4] = tf32(register)
    return tile


def _tf32_b(bits: list[Array], depth: int) -> Array:
    tile = np.zeros((len(bits[0]), depth, 8))
    for number, register in enumerate(bits):
        tile[:, _MEMBER + number * 4, _GROUP] = tf32(register)
    return tile


def _accumulators(bits: list[Array], kind: str) -> Array:
    """`[warps, 16, 8]`."""
    tile = np.zeros((len(bits[0]), 16, 8))
    for number, register in enumerate(bits):
        if kind == "f32":
            values = np.ascontiguousarray(register).view(np.float32)
            tile[:, _GROUP + number // 2 * 8, _MEMBER * 2 + number % 2] = values
        else:
            for half, part in enumerate(_two_halves(register, type_named("f16"))):
                tile[:, _GROUP + number * 8, _MEMBER * 2 + half] = part
    return tile


def _fragments(tile: Array, kind: str) -> list[Array]:
    """The reverse of `_accumulators`: `[warps, lanes]` for each register."""
    if kind == "f32":
        bits = tile.astype(np.float32).view(np.uint32)
        return [bits[:, _GROUP + number // 2 * 8, _MEMBER * 2 + number % 2] for number in range(4)]
    bits = narrow(tile, type_named("f16")).astype(np.uint32)
    return [
        bits[:, _GROUP + number * 8, _MEMBER * 2]
        | bits[:, _GROUP + number * 8, _MEMBER * 2 + 1] << np.uint32(16)
        for number in range(2)
    ]


def _matrix_modifiers(ins: Instruction) -> tuple[int, bool]:
    """The number of 8x8 matrices of 16-bit elements, and True if they are transposed."""
    operand_count(ins, 2)
    modifiers = Modifiers(ins)
    for name in ("sync", "aligned", "m8n8", "b16"):
        modifiers.one_of((name,))
    count = int(modifiers.one_of(("x1", "x2", "x4"))[1:])
    transposed = modifiers.has("trans")
    modifiers.one_of(("shared", "shared::cta"))
    modifiers.done()
    return count, transposed


def _row_lanes(lanes: Lanes, mask: Mask, count: int) -> Array:
    """The lanes that hold row addresses, 8 per matrix, in the warps that take part."""
    active = np.ones(lanes.size, np.bool_) if mask is None else mask
    return np.flatnonzero(active & (lanes.specials["%laneid"] < 8 * count))


@instruction("ldmatrix")
def decode_ldmatrix(ins: Instruction, kernel: Kernel) -> Action:
    """Lane 8 i + j has the address of matrix i's row j; each lane gets two elements of a row."""
    count, transposed = _matrix_modifiers(ins)
    targets = elements(ins.operands[0])
    if len(targets) != count:
        raise unknown(ins, f"{len(targets)} registers for {count} matrices")
    writes = [writer(ins, target, _B32) for target in targets]
    address = address_of(ins, ins.operands[1], kernel)

    def act(lanes: Lanes, mask: Mask) -> None:
        lanes.require_whole_warps(mask, "ldmatrix")
        rows = _row_lanes(lanes, mask, count)
        words = lanes.shared.read(lanes.access(rows), address(lanes)[rows], 4, 4)
        halves = np.ascontiguousarray(words).view(np.uint16).reshape(-1, count, 8, 8)
        if transposed:
            halves = halves.swapaxes(2, 3)
        fragments = np.ascontiguousarray(halves).view(np.uint32).reshape(-1, count, WARP)
        there = slice(None) if mask is None else mask
        for number, write in enumerate(writes):
            value = np.zeros(lanes.size, np.uint32)
            value[there] = fragments[:, number].reshape(-1)
            write(lanes, mask, value)

    return act


@instruction("stmatrix")
def decode_stmatrix(ins: Instruction, kernel: Kernel) -> Action:
    """The reverse of `ldmatrix`."""
    count, transposed = _matrix_modifiers(ins)
    sources = elements(ins.operands[1])
    if len(sources) != count:
        raise unknown(ins, f"{len(sources)} registers for {count} matrices")
    reads = [reader(ins, source, _B32, kernel) for source in sources]
    address = address_of(ins, ins.operands[0], kernel)

    def act(lanes: Lanes, mask: Mask) -> None:
        lanes.require_whole_warps(mask, "stmatrix")
        rows = _row_lanes(lanes, mask, count)
        there = slice(None) if mask is None else mask
        fragments = np.stack(
            [np.broadcast_to(read(lanes), lanes.size)[there].reshape(-1, WARP) for read in reads],
            axis=1,
        )
        halves = np.ascontiguousarray(fragments).view(np.uint16).reshape(-1, count, 8, 8)
        if transposed:
            halves = halves.swapaxes(2, 3)
        words = np.ascontiguousarray(halves).view(np.uint32).reshape(-1, 4)
        places = address(lanes)[rows]
        if (places % 16).any():
            raise KernelFault("misaligned stmatrix")
        lanes.shared.write(lanes.access(rows), places, 4, 4, words)

    return act
