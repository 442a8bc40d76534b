"""Matrix products of four warps (`wgmma`, sm_90) with operands in shared memory.

The emulator computes a product when it is issued, so it does not detect a kernel that does not wait
for the product.
"""

from __future__ import annotations

import re

import numpy as np

from .decode import Action, Modifiers, elements, instruction, operand_count, reader, unknown, writer
from .errors import KernelFault
from .lanes import WARP, Lanes, Mask
from .matrices import halves_of_a, tf32, tf32_of_a
from .parser import Immediate, Instruction, Kernel, Vector
from .types import Array, Type, type_named, widen

GROUP = 4 * WARP
_DEPTH = 16
_SINGLE_DEPTH = 8
"""The depth of a tf32 product."""
_ROWS = 64
_SWIZZLES = {1: 128, 2: 64, 3: 32}
"""Width in bytes of a swizzled row, by the two highest bits of the descriptor."""


@instruction("wgmma")
def decode_wgmma(ins: Instruction, kernel: Kernel) -> Action:
    modifiers = Modifiers(ins)
    what = modifiers.one_of(("fence", "commit_group", "wait_group", "mma_async"))
    modifiers.one_of(("sync",))
    modifiers.one_of(("aligned",))
    if what == "mma_async":
        return _product(ins, kernel, modifiers)
    modifiers.done()
    return lambda lanes, mask: _require_groups(lanes, mask)


def _require_groups(lanes: Lanes, mask: Mask) -> None:
    if lanes.threads % GROUP:
        raise KernelFault("wgmma in a CTA whose number of threads is not a multiple of 128")
    if mask is not None:
        groups = mask.reshape(-1, GROUP)
        if (groups.any(axis=1) != groups.all(axis=1)).any():
            raise KernelFault("wgmma is not executed by all threads of the four warps")


def _product(ins: Instruction, kernel: Kernel, modifiers: Modifiers) -> Action:
    """`m64nNk16.f32.f16.f16 D, A, B, keep D, 1, 1, A turned, B turned`; A may be in registers.

    "Turned" means transposed. With tf32 (`m64nNk8`), no operand can be turned.
    """
    shape = re.fullmatch(r"m64n(\d+)k(8|16)", modifiers.rest.pop(0))
    kinds = tuple(modifiers.rest)
    a_is_held = isinstance(ins.operands[1], Vector)
    single = kinds == ("f32", "tf32", "tf32")
    operand_count(ins, 6 if single else 7 if a_is_held else 8)
    halves = kinds in (("f32", "f16", "f16"), ("f32", "bf16", "bf16"))
    if shape is None or not (halves or single) or shape[2] != ("8" if single else "16"):
        raise unknown(ins, f"wgmma of {' '.join(ins.modifiers)}")
    columns, kind = int(shape[1]), None if single else type_named(kinds[1])
    flags = ins.operands[4:]
    if not all(isinstance(flag, Immediate) for flag in flags) or flags[:2] != (Immediate(1),) * 2:
        raise unknown(ins, f"wgmma with {flags}")
    a_turned = not single and not a_is_held and flags[2] != Immediate(0)
    b_turned = not single and flags[-1] != Immediate(0)
    word, b64 = type_named("b32"), type_named("b64")
    sums = elements(ins.operands[0])
    if len(sums) != columns // 2:
        raise unknown(ins, f"{len(sums)} registers for 64 x {columns}")
    keeps = reader(ins, ins.operands[3], type_named("pred"), kernel)
    reads = [reader(ins, each, word, kernel, unwritten=True) for each in sums]
    writes = [writer(ins, each, word) for each in sums]
    a_reads = [
        reader(ins, e, word if a_is_held else b64, kernel) for e in elements(ins.operands[1])
    ]
    b_read = reader(ins, ins.operands[2], b64, kernel)

    def act(lanes: Lanes, mask: Mask) -> None:
        _require_groups(lanes, mask)
        active = np.ones(lanes.size, np.bool_) if mask is None else mask
        groups = np.flatnonzero(active.reshape(-1, GROUP).all(axis=1))
        if a_is_held:
            bits = [np.broadcast_to(read(lanes), lanes.size).reshape(-1, WARP) for read in a_reads]
            depth = _SINGLE_DEPTH if kind is None else _DEPTH
            held = tf32_of_a(bits, depth) if kind is None else halves_of_a(bits, kind, depth)
            a = held.reshape(-1, _ROWS, depth)[groups]
        else:
            a = _tile(lanes, groups, a_reads[0](lanes), _ROWS, kind, turned=a_turned)
        b = _tile(lanes, groups, b_read(lanes), columns, kind, turned=b_turned)
        total = a @ b.swapaxes(1, 2)
        keep = np.broadcast_to(keeps(lanes), lanes.size)
        for number, (read, write) in enumerate(zip(reads, writes, strict=True)):
            rows, column = _place(number)
            product = np.zeros((lanes.size // GROUP, GROUP))
            product[groups] = total[:, rows, column]
            before = np.ascontiguousarray(np.broadcast_to(read(lanes), lanes.size))
            start = np.where(keep, before.view(np.float32).astype(np.float64), 0.0)
            write(lanes, mask, (start + product.reshape(-1)).astype(np.float32))

    return act


def _place(number: int) -> tuple[Array, Array]:
    """Row and column, for each thread, of its sum with this number."""
    thread = np.arange(GROUP)
    lane = thread % WARP
    row = thread // WARP * 16 + lane // 4 + number // 2 % 2 * 8
    return row, number // 4 * 8 + lane % 4 * 2 + number % 2


def _tile(
    lanes: Lanes, groups: Array, descriptors: Array, rows: int, kind: Type | None, *, turned: bool
) -> Array:
    """Read `[groups, rows, 16]` from shared memory, in chunks of 16 bytes, which swizzling moves.

    If `kind` is None, the type is tf32: `[groups, rows, 8]`, with the same number of bytes.

    If not turned, the values of one row are contiguous. If turned, the values of one depth index
    are contiguous, in blocks of rows as wide as the swizzle; one block follows another.
    """
    values = np.broadcast_to(descriptors, lanes.size).reshape(-1, GROUP)[groups].astype(np.int64)
    if (values != values[:, :1]).any():
        raise KernelFault("wgmma with different descriptors within one group of four warps")
    descriptor = values[:, 0]
    start = (descriptor & 0x3FFF) << 4
    leading, stride = (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    modes = np.unique(descriptor >> 62 & 3)
    if len(modes) != 1 or int(modes[0]) not in _SWIZZLES or (descriptor >> 49 & 7).any():
        raise KernelFault(f"wgmma with a matrix layout {modes} that the emulator does not know")
    width = _SWIZZLES[int(modes[0])]
    if turned:
        outer, inner = np.meshgrid(np.arange(_DEPTH), np.arange(0, 2 * rows, 16), indexing="ij")
    else:
        outer, inner = np.meshgrid(np.arange(rows), np.arange(0, 2 * _DEPTH, 16), indexing="ij")
    outer, inner = outer.reshape(-1), inner.reshape(-1)
    address = start[:, None] + outer // 8 * stride[:, None] + outer % 8 * width + inner % width
    address = address + inner // width * leading[:, None]
    address ^= (address >> 7 & (width // 16 - 1)) << 4
    # The threads of the group read the chunks in turn.
    reader_lane = groups[:, None] * GROUP + np.arange(len(outer)) % GROUP
    words = lanes.shared.read(
        lanes.access(reader_lane.reshape(-1)), address.reshape(-1).astype(np.int64), 4, 4
    )
    if kind is None:
        return tf32(words.view(np.uint32)).reshape(len(groups), rows, _SINGLE_DEPTH)
    halves = widen(np.ascontiguousarray(words).view(np.uint16), kind)
    if turned:
        return halves.reshape(len(groups), _DEPTH, rows).swapaxes(1, 2)
    return halves.reshape(len(groups), rows, _DEPTH)
