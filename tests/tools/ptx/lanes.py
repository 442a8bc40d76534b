"""The threads of several CTAs: each thread is a lane, each register an array over all lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import KernelFault
from .memory import Access, GlobalMemory, SharedMemory
from .types import Array

Mask = NDArray[np.bool_] | None
"""The lanes that execute an instruction; None for all, which is the fast case."""

WARP = 32


class Lanes:
    """The state that instructions work on.

    Registers hold bits (unsigned integers, or booleans for predicates). Their arrays are never
    changed in place, so several registers may share an array. An unset register is None.
    """

    def __init__(
        self,
        *,
        threads: int,
        ctas: NDArray[np.int64],
        grid: tuple[int, int, int],
        registers: int,
        parameters: dict[str, int],
        memory: GlobalMemory,
        shared: SharedMemory,
    ) -> None:
        count = len(ctas)
        self.threads, self.ctas, self.size = threads, count, threads * count
        self.registers: list[Array | None] = [None] * registers
        self.parameters = parameters
        self.memory = memory
        self.shared = shared
        self.thread = np.tile(np.arange(threads), count)
        self.cta = np.repeat(np.arange(count), threads)
        self.specials = _specials(self.thread, ctas, threads, grid)
        self.now = 0
        self.at = 0
        self.cta_barrier = np.full(self.size, -1, np.int64)
        self.warp_barrier = np.full(self.size, -1, np.int64)
        self.exited = np.zeros(self.size, np.bool_)
        self.copies = AsyncCopies(self.size)

    def indices(self, mask: Mask) -> slice | NDArray[Any]:
        """The index that selects the mask's lanes from an array over all lanes."""
        return slice(None) if mask is None else np.flatnonzero(mask)

    def access(self, lanes: slice | NDArray[Any]) -> Access:
        """The identity of these lanes, for the race checks of shared memory."""
        return Access(
            self.now,
            self.cta[lanes],
            self.thread[lanes],
            self.cta_barrier[lanes],
            self.warp_barrier[lanes],
        )

    def require_whole_warps(self, mask: Mask, what: str) -> None:
        """Raise KernelFault if only some threads of a warp take part."""
        if mask is None:
            return
        warps = mask.reshape(-1, WARP)
        if (warps.any(axis=1) != warps.all(axis=1)).any():
            raise KernelFault(f"{what} by some threads of a warp, where all must take part")

    def require_members(self, mask: Mask, members: Array, what: str) -> None:
        """Raise KernelFault unless exactly the threads in the member mask take part."""
        active = np.ones(self.size, np.bool_) if mask is None else mask
        lane = self.specials["%laneid"]
        ballots = (active.astype(np.uint64) << lane).reshape(-1, WARP).sum(axis=1)
        arrived = np.repeat(ballots.astype(np.uint32), WARP)
        if ((members != arrived) & active).any():
            raise KernelFault(f"{what} whose member mask is not the threads that take part")


def _specials(
    thread: Array, ctas: NDArray[np.int64], threads: int, grid: tuple[int, int, int]
) -> dict[str, Array]:
    lane = (thread % WARP).astype(np.uint32)
    size = len(thread)
    specials = {
        "%laneid": lane,
        "%warpid": (thread // WARP).astype(np.uint32),
        "%nwarpid": np.full(size, threads // WARP, np.uint32),
        "%lanemask_eq": np.uint32(1) << lane,
        "%lanemask_lt": (np.uint32(1) << lane) - np.uint32(1),
        "%lanemask_ge": ~((np.uint32(1) << lane) - np.uint32(1)),
        "%lanemask_le": ((np.uint64(2) << lane.astype(np.uint64)) - np.uint64(1)).astype(np.uint32),
    }
    specials["%lanemask_gt"] = ~specials["%lanemask_le"]
    x, y, _ = grid
    place = {"x": ctas % x, "y": ctas // x % y, "z": ctas // (x * y)}
    for number, axis in enumerate("xyz"):
        specials[f"%ctaid.{axis}"] = np.repeat(place[axis], threads).astype(np.uint32)
        specials[f"%nctaid.{axis}"] = np.full(size, grid[number], np.uint32)
        first = axis == "x"
        specials[f"%tid.{axis}"] = thread.astype(np.uint32) if first else np.zeros(size, np.uint32)
        specials[f"%ntid.{axis}"] = np.full(size, threads if first else 1, np.uint32)
    return specials


class AsyncCopies:
    """`cp.async`: the pending copies, each with its group in the thread that started it."""

    def __init__(self, size: int) -> None:
        self.committed = np.zeros(size, np.int64)
        self._pending: list[tuple[Array, Array, Array, Array]] = []

    def start(self, lanes: Array, addresses: Array, data: Array) -> None:
        """Add copies of bytes `[lanes, n]` to shared memory, in the current group of each lane."""
        self._pending.append((lanes, self.committed[lanes], addresses, data))

    def commit(self, lanes: slice | Array) -> None:
        """`cp.async.commit_group`."""
        self.committed[lanes] += 1

    def wait(self, state: Lanes, mask: Mask, groups: int | None) -> None:
        """Finish all but a thread's last `groups` committed groups; None: also uncommitted ones."""
        waiting = np.ones(state.size, np.bool_) if mask is None else mask
        kept = []
        for lanes, number, addresses, data in self._pending:
            due = waiting[lanes]
            if groups is not None:
                due = due & (number < self.committed[lanes] - groups)
            if due.any():
                offsets = state.cta[lanes[due]] * state.shared.row + addresses[due]
                words = np.ascontiguousarray(data[due]).view(np.uint32)
                state.shared.plain.write(offsets, 4, words.shape[1], words)
            if not due.all():
                rest = ~due
                kept.append((lanes[rest], number[rest], addresses[rest], data[rest]))
        self._pending = kept
