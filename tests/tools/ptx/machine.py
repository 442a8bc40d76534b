"""Launches kernels: several CTAs at a time, all their threads in step, with masks for divergence.

If threads take different paths at a branch, the paths run one after another. The threads meet again
at the branch's immediate post-dominator, as in code of the hardware's compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from . import (  # noqa: F401  (they register decoders)
    accesses,
    floats,
    integers,
    matrices,
    moves,
    warpgroups,
    warps,
)
from .accesses import widths
from .decode import DECODERS, Action, Modifiers, Read, operand_count, reader, unknown
from .errors import KernelFault, LaunchError, PtxError
from .lanes import WARP, Lanes, Mask
from .memory import Buffer, GlobalMemory, SharedMemory
from .parser import Immediate, Instruction, Symbol, parse_kernel
from .types import type_named

LANES = 4096
"""Approximate number of threads emulated at once; up to a limit, more threads cost less each."""

STEPS = 20_000_000
"""A kernel counts as stuck if CTAs emulated together execute more instructions than this."""

_CONTROL = ("bra", "ret", "exit", "bar", "barrier", "trap")


@dataclass
class _Step:
    """A decoded instruction. `action` is None for control flow."""

    ins: Instruction
    guard: int | None
    negated: bool
    action: Action | None = None
    control: str = ""
    target: int = 0
    meeting: int = 0
    """For a branch that may divide threads: the instruction at which they meet again."""
    members: Read | None = None


class Program:
    """A kernel, decoded. `launch` may be called any number of times.

    Raises:
        PtxSyntaxError: the text cannot be read.
        UnknownInstructionError: an instruction is not known, even if it would not be executed.
    """

    def __init__(self, ptx: str) -> None:
        self.kernel = parse_kernel(ptx)
        if self.kernel.threads is None:
            raise LaunchError(f"{self.kernel.name} does not say how many threads it has (.reqntid)")
        x, y, z = self.kernel.threads
        if y != 1 or z != 1 or x % WARP:
            raise LaunchError(f"{x} x {y} x {z} threads; known are whole warps along x")
        self.threads = x
        self._steps = [self._decode(ins) for ins in self.kernel.instructions]
        self._granule = min(widths(self.kernel), default=4)
        self._find_meetings()

    def _decode(self, ins: Instruction) -> _Step:
        guard = ins.guard
        step = _Step(
            ins,
            None if guard is None else guard.index,
            negated=guard is not None and guard.negated,
        )
        if ins.opcode in _CONTROL:
            self._decode_control(ins, step)
        elif ins.opcode in DECODERS:
            step.action = DECODERS[ins.opcode](ins, self.kernel)
        else:
            raise unknown(ins, f"opcode {ins.opcode}")
        return step

    def _decode_control(self, ins: Instruction, step: _Step) -> None:
        modifiers = Modifiers(ins)
        step.control = ins.opcode
        if ins.opcode == "bra":
            modifiers.has("uni")
            operand_count(ins, 1)
            label = ins.operands[0]
            if not isinstance(label, Symbol):
                raise unknown(ins, f"branch to {label}")
            step.target = self.kernel.labels[label.name]
        elif ins.opcode in ("bar", "barrier"):
            if ins.opcode == "bar" and modifiers.has("warp"):
                modifiers.one_of(("sync",))
                step.control = "warp barrier"
                step.members = reader(ins, ins.operands[0], type_named("u32"), self.kernel)
            else:
                modifiers.has("cta")
                modifiers.one_of(("sync",))
                modifiers.has("aligned")
                step.control = "barrier"
                if ins.operands != (Immediate(0),) and ins.operands != (
                    Immediate(0),
                    Immediate(self.threads),
                ):
                    raise unknown(ins, "a barrier other than number 0 of all threads")
        else:
            operand_count(ins, 0)
        modifiers.done()

    def launch(
        self,
        grid: Sequence[int],
        arguments: Sequence[Buffer | int | None],
        *,
        shared_bytes: int = 0,
        block: Sequence[int] | None = None,
    ) -> int:
        """Run the kernel; outputs are in their buffers' arrays afterwards.

        Args:
            grid: CTAs along x, y and z.
            arguments: for each parameter a buffer, a number, or None for a null pointer.
            shared_bytes: dynamic shared memory.
            block: threads along x, y and z, which must be the kernel's; None for no check.

        Returns:
            The number of instructions executed; one that many lanes execute counts once.

        Raises:
            LaunchError: the grid, the block or the arguments do not fit the kernel.
            KernelFault: the kernel did something undefined, or left output unwritten.
        """
        x, y, z = (*grid, 1, 1)[:3]
        if min(x, y, z) < 1 or x >= 2**31 or max(y, z) > 65535:
            raise LaunchError(f"a grid of {tuple(grid)} cannot be launched")
        if block is not None and tuple((*block, 1, 1)[:3]) != self.kernel.threads:
            raise LaunchError(f"{tuple(block)} threads for a kernel of {self.kernel.threads}")
        memory, parameters = self._bind(arguments)
        shared = self.kernel.static_shared + shared_bytes
        together = max(1, LANES // self.threads)
        steps = 0
        for first in range(0, x * y * z, together):
            ctas = np.arange(first, min(first + together, x * y * z), dtype=np.int64)
            lanes = Lanes(
                threads=self.threads,
                ctas=ctas,
                grid=(x, y, z),
                registers=self.kernel.registers,
                parameters=parameters,
                memory=memory,
                shared=SharedMemory(len(ctas), shared, self._granule),
            )
            with np.errstate(all="ignore"):
                self._run(lanes)
            steps += lanes.now
        memory.finish()
        return steps

    def _bind(
        self, arguments: Sequence[Buffer | int | None]
    ) -> tuple[GlobalMemory, dict[str, int]]:
        declared = self.kernel.parameters
        if len(arguments) != len(declared):
            raise LaunchError(
                f"{self.kernel.name} takes {len(declared)} arguments; got {len(arguments)}"
            )
        buffers = [argument for argument in arguments if isinstance(argument, Buffer)]
        memory = GlobalMemory(buffers)
        values: dict[str, int] = {}
        for parameter, argument in zip(declared, arguments, strict=True):
            pointer = isinstance(argument, Buffer) or argument is None
            if pointer != parameter.pointer:
                raise LaunchError(
                    f"{parameter.name} is {'a pointer' if parameter.pointer else 'a number'}; "
                    f"got {'a buffer' if pointer else argument}"
                )
            if isinstance(argument, Buffer):
                number = next(i for i, buffer in enumerate(buffers) if buffer is argument)
                values[parameter.name] = memory.address(number)
            else:
                values[parameter.name] = argument or 0
        return memory, values

    def _find_meetings(self) -> None:
        """Find the immediate post-dominator of every branch in the graph of instructions."""
        end = len(self._steps)
        backwards = nx.DiGraph()
        backwards.add_node(end)
        for at, step in enumerate(self._steps):
            leaves = step.control in ("ret", "exit", "trap")
            targets = {end} if leaves else {step.target} if step.control == "bra" else {at + 1}
            if step.guard is not None:
                targets.add(at + 1)
            backwards.add_edges_from((target, at) for target in targets)
        nearest = nx.immediate_dominators(backwards, end)
        for at, step in enumerate(self._steps):
            if step.control == "bra":
                step.meeting = nearest.get(at, end)

    def _run(self, lanes: Lanes) -> None:
        """Run all lanes. The stack holds (next, lanes, stop) of lanes that wait for those above."""
        stack: list[tuple[int, Mask, int]] = [(0, None, len(self._steps))]
        while stack:
            at, mask, stop = stack.pop()
            if lanes.exited.any():
                mask = ~lanes.exited if mask is None else mask & ~lanes.exited
                if not mask.any():
                    continue
            try:
                self._advance(lanes, stack, at, mask, stop)
            except PtxError as error:
                raise type(error)(f"{error}; {self._steps[lanes.at].ins}") from None

    def _advance(
        self, lanes: Lanes, stack: list[tuple[int, Mask, int]], at: int, mask: Mask, stop: int
    ) -> None:
        """Run lanes up to `stop`, where others wait for them, or until they divide or end."""
        steps, registers = self._steps, lanes.registers
        while at != stop:
            if at >= len(steps):
                raise KernelFault(f"{self.kernel.name} runs past its end")
            step = steps[at]
            lanes.now += 1
            lanes.at = at
            if lanes.now > STEPS:
                raise KernelFault(f"not done after {STEPS} instructions")
            chosen = mask
            if step.guard is not None:
                guard = registers[step.guard]
                if guard is None:
                    raise KernelFault("guarded by a predicate that was never written")
                chosen = ~guard if step.negated else guard
                if mask is not None:
                    chosen = chosen & mask
                if not chosen.any():
                    at += 1
                    continue
                if chosen.all():
                    chosen = None
            if step.action is not None:
                step.action(lanes, chosen)
                at += 1
            elif step.control == "bra":
                rest = _without(mask, chosen)
                if rest is None:
                    at = step.target
                    continue
                stack.append((step.meeting, mask, stop))
                stack.append((at + 1, rest, step.meeting))
                stack.append((step.target, chosen, step.meeting))
                return
            elif step.control in ("ret", "exit"):
                lanes.exited[lanes.indices(chosen)] = True
                rest = _without(mask, chosen)
                if rest is None:
                    return
                mask, at = rest, at + 1
            elif step.control == "trap":
                raise KernelFault("trap")
            else:
                self._wait(lanes, step, chosen)
                at += 1

    def _wait(self, lanes: Lanes, step: _Step, mask: Mask) -> None:
        where = lanes.indices(mask)
        if step.control == "warp barrier":
            assert step.members is not None
            members = np.broadcast_to(step.members(lanes), lanes.size)
            lanes.require_members(mask, members, "bar.warp.sync")
            lanes.warp_barrier[where] = lanes.now
            return
        if mask is not None:
            rows = mask.reshape(lanes.ctas, lanes.threads)
            missing = rows.any(axis=1)[:, None] & ~(rows | lanes.exited.reshape(rows.shape))
            if missing.any():
                raise KernelFault("barrier at which not all threads of a CTA arrive together")
        lanes.cta_barrier[where] = lanes.now
        lanes.warp_barrier[where] = lanes.now


def _without(mask: Mask, chosen: Mask) -> NDArray[np.bool_] | None:
    """The lanes of a mask that were not chosen; None if there are none."""
    if chosen is None:
        return None
    rest = ~chosen if mask is None else mask & ~chosen
    return rest if rest.any() else None
