"""Global and shared memory, which check addresses and record what was written, and by whom.

An access is one of many lanes at once: `addresses` holds a byte address for each lane, int64.
Results and data are unsigned integers `[lanes, count]`: `count` elements of `size` bytes per lane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import KernelFault, LaunchError
from .types import Array

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_WRITTEN = {size: kind(2 ** (8 * size) - 1) for size, kind in _UNSIGNED.items()}
_BUFFER_BITS = 40
"""Buffers start 2**_BUFFER_BITS bytes apart, so that an invalid address is in no buffer."""


class Plain:
    """Bytes that can be read and written in elements of any size; records which were written."""

    def __init__(self, contents: NDArray[np.uint8], *, written: bool) -> None:
        self.size = contents.size
        padded = np.zeros(-(-self.size // 16) * 16, np.uint8)
        padded[: self.size] = contents
        self.bytes = padded
        self._views = {size: padded.view(kind) for size, kind in _UNSIGNED.items()}
        self.complete = written
        if not written:
            marks = np.zeros_like(padded)
            self.marks = marks
            self._mark_views = {size: marks.view(kind) for size, kind in _UNSIGNED.items()}

    def read(self, offsets: Array, size: int, count: int) -> Array:
        """Elements at byte offsets, which must be aligned and in range."""
        return self._views[size][_elements(offsets, size, count)]

    def write(self, offsets: Array, size: int, count: int, data: Array) -> None:
        """Raises KernelFault if two lanes write different values to one place."""
        where = _elements(offsets, size, count)
        view = self._views[size]
        view[where] = data
        if (view[where] != data).any():
            raise KernelFault("race: two threads write different values to one place at once")
        if not self.complete:
            self._mark_views[size][where] = _WRITTEN[size]

    def unwritten(self, offsets: Array, size: int, count: int) -> Array:
        """True for each lane that would read a byte that was never written."""
        if self.complete:
            return np.zeros(len(offsets), np.bool_)
        marks = self._mark_views[size][_elements(offsets, size, count)]
        return (marks != _WRITTEN[size]).any(axis=1)

    def forget(self, offsets: Array, size: int, count: int) -> None:
        """Mark the elements as unwritten."""
        self._mark_views[size][_elements(offsets, size, count)] = 0


def _elements(offsets: Array, size: int, count: int) -> Array:
    first = (offsets // size)[:, None]
    return first if count == 1 else first + np.arange(count)


@dataclass
class Buffer:
    """A kernel's argument in global memory.

    Inputs may not be written. An output is unwritten at first, and must be completely written when
    the kernel ends, unless it is `partial`. With read_only=False, an input may also be written.
    """

    name: str
    array: NDArray[Any]
    output: bool = False
    partial: bool = False
    read_only: bool | None = None

    def __post_init__(self) -> None:
        if self.read_only is None:
            self.read_only = not self.output


class GlobalMemory:
    """The buffers of one launch, far apart; null and addresses between buffers are invalid."""

    def __init__(self, buffers: list[Buffer]) -> None:
        for buffer in buffers:
            if not buffer.array.flags.c_contiguous:
                raise LaunchError(f"{buffer.name} is not contiguous")
        self.buffers = buffers
        self.plain = [
            Plain(np.atleast_1d(b.array).view(np.uint8).reshape(-1), written=not b.output)
            for b in buffers
        ]

    def address(self, number: int) -> int:
        """The address at which the buffer with this number starts."""
        return (number + 1) << _BUFFER_BITS

    def read(self, addresses: Array, size: int, count: int) -> Array:
        """Raises KernelFault for an address in no buffer, misaligned, or never written."""
        number, offsets = self._locate(addresses, size, count, "read")
        if isinstance(number, int):
            self._check_written(number, offsets, size, count)
            return self.plain[number].read(offsets, size, count)
        result = np.zeros((len(addresses), count), _UNSIGNED[size])
        for each in np.unique(number):
            lanes = number == each
            self._check_written(int(each), offsets[lanes], size, count)
            result[lanes] = self.plain[int(each)].read(offsets[lanes], size, count)
        return result

    def write(self, addresses: Array, size: int, count: int, data: Array) -> None:
        """Raises KernelFault for an address in no buffer, misaligned, or read-only."""
        number, offsets = self._locate(addresses, size, count, "write")
        for each in [number] if isinstance(number, int) else np.unique(number):
            lanes = slice(None) if isinstance(number, int) else number == each
            if self.buffers[int(each)].read_only:
                raise KernelFault(f"write to {self.buffers[int(each)].name}, an input")
            self.plain[int(each)].write(offsets[lanes], size, count, data[lanes])

    def _check_written(self, number: int, offsets: Array, size: int, count: int) -> None:
        plain = self.plain[number]
        if not plain.complete and plain.unwritten(offsets, size, count).any():
            raise KernelFault(f"read of {self.buffers[number].name}, where nothing was written yet")

    def _locate(
        self, addresses: Array, size: int, count: int, what: str
    ) -> tuple[int | Array, Array]:
        """The buffer of every lane (one number if it is the same for all) and the offset in it."""
        numbers = (addresses >> _BUFFER_BITS) - 1
        offsets = addresses & ((1 << _BUFFER_BITS) - 1)
        width = size * count
        first = int(numbers[0])
        if (numbers == first).all():
            self._check(first, offsets, width, what)
            return first, offsets
        for each in np.unique(numbers):
            self._check(int(each), offsets[numbers == each], width, what)
        return numbers, offsets

    def _check(self, number: int, offsets: Array, width: int, what: str) -> None:
        if not 0 <= number < len(self.buffers):
            raise KernelFault(f"{what} of {width} bytes at an address in no buffer")
        name, size = self.buffers[number].name, self.plain[number].size
        if int(offsets.max()) + width > size:
            raise KernelFault(
                f"{what} of {width} bytes at byte {offsets.max()} of {name}, which has {size}"
            )
        if (offsets % width).any():
            raise KernelFault(f"misaligned {what} of {width} bytes in {name}")

    def finish(self) -> None:
        """Copy the contents of all buffers that may be written into their arrays.

        Raises KernelFault if an output that is not `partial` has unwritten bytes.
        """
        for buffer, plain in zip(self.buffers, self.plain, strict=True):
            if buffer.output and not buffer.partial and not plain.marks[: plain.size].all():
                first = int((plain.marks[: plain.size] == 0).argmax())
                raise KernelFault(f"nothing was written to byte {first} of output {buffer.name}")
            if not buffer.read_only:
                buffer.array.reshape(-1).view(np.uint8)[:] = plain.bytes[: plain.size]


_MANY = -1


class _Last:
    """The last access of one kind to each granule: when, by which thread, and of which warp."""

    def __init__(self, what: str, granules: int) -> None:
        self.what = what
        self._when = np.full(granules, -1, np.int64)
        self._thread = np.full(granules, _MANY, np.int64)
        self._warp = np.full(granules, _MANY, np.int64)

    def check(self, access: Access, places: Array) -> None:
        """Raise KernelFault if another thread accessed a place since the last common barrier."""
        when = self._when[places]
        if not (when > access.cta_barrier[:, None]).any():
            return
        same_warp = self._warp[places] == (access.threads // 32)[:, None]
        since = np.where(same_warp, access.warp_barrier[:, None], access.cta_barrier[:, None])
        race = (when > since) & (self._thread[places] != access.threads[:, None])
        if race.any():
            lane = int(race.any(axis=1).argmax())
            raise KernelFault(
                f"race: thread {access.threads[lane]} accesses shared memory that another thread "
                f"has {self.what} since the last barrier"
            )

    def note(self, access: Access, places: Array) -> None:
        threads = access.threads[:, None]
        recent = self._when[places] > access.cta_barrier[:, None]
        for owner, mine in ((self._thread, threads), (self._warp, threads // 32)):
            before = owner[places]
            owner[places] = np.where(recent & (before != mine), _MANY, mine)
            # If several lanes access one place at once, the number of the last one is stored.
            others = (owner[places] != mine) & (owner[places] != _MANY)
            if others.any():
                owner[places[others]] = _MANY
        self._when[places] = access.now


class SharedMemory:
    """The shared memory of several CTAs, one row each; records the accesses to find races.

    Two threads may not access the same place without a barrier between them, unless both read,
    both are atomic, or both write the same value in one instruction. Accesses are recorded per
    granule, the smallest unit that the kernel accesses.
    """

    def __init__(self, ctas: int, size: int, granule: int) -> None:
        self.row = -(-max(size, 1) // 16) * 16
        self.size = size
        self.granule = granule
        self.plain = Plain(np.zeros(ctas * self.row, np.uint8), written=False)
        granules = ctas * self.row // granule
        self._written = _Last("written", granules)
        self._read = _Last("read", granules)
        self._atomic = _Last("changed by an atomic", granules)

    def read(self, access: Access, addresses: Array, size: int, count: int) -> Array:
        """Raises KernelFault for an access out of range, misaligned, unwritten, or a race."""
        offsets = self._offsets(access, addresses, size * count, "read")
        unwritten = self.plain.unwritten(offsets, size, count)
        if unwritten.any():
            raise KernelFault(
                f"read of shared memory at byte {addresses[int(unwritten.argmax())]}, where "
                "nothing was written"
            )
        places = self._granules(offsets, size * count)
        self._written.check(access, places)
        self._atomic.check(access, places)
        self._read.note(access, places)
        return self.plain.read(offsets, size, count)

    def write(self, access: Access, addresses: Array, size: int, count: int, data: Array) -> None:
        """Raises KernelFault for an access out of range, misaligned, or a race."""
        offsets = self._offsets(access, addresses, size * count, "write")
        places = self._granules(offsets, size * count)
        for last in (self._written, self._read, self._atomic):
            last.check(access, places)
        self.plain.write(offsets, size, count, data)
        self._written.note(access, places)

    def begin_atomic(self, access: Access, addresses: Array, size: int) -> Array:
        """The offsets in `plain` for atomics. Any number of them may access one place."""
        offsets = self._offsets(access, addresses, size, "atomic")
        if self.plain.unwritten(offsets, size, 1).any():
            raise KernelFault("atomic on shared memory where nothing was written")
        places = self._granules(offsets, size)
        self._written.check(access, places)
        self._read.check(access, places)
        self._atomic.note(access, places)
        return offsets

    def reserve(self, access: Access, addresses: Array, size: int) -> None:
        """Mark the target of an asynchronous copy, which is unwritten until the copy ends."""
        offsets = self._offsets(access, addresses, size, "copy")
        places = self._granules(offsets, size)
        for last in (self._written, self._read, self._atomic):
            last.check(access, places)
        self.plain.forget(offsets, 4, size // 4)
        self._written.note(access, places)

    def _offsets(self, access: Access, addresses: Array, width: int, what: str) -> Array:
        low, high = int(addresses.min()), int(addresses.max())
        if low < 0 or high + width > self.size:
            raise KernelFault(
                f"{what} of {width} bytes at byte {low if low < 0 else high} of shared memory, "
                f"of which there are {self.size}"
            )
        if (addresses % width).any():
            raise KernelFault(f"misaligned {what} of {width} bytes of shared memory")
        return access.ctas * self.row + addresses

    def _granules(self, offsets: Array, width: int) -> Array:
        return _elements(offsets, self.granule, max(1, width // self.granule))


@dataclass
class Access:
    """The threads that access shared memory, one per lane, and the last barriers of each."""

    now: int
    ctas: Array
    threads: Array
    cta_barrier: Array
    warp_barrier: Array
