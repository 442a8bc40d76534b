"""The connection between the server and a worker process.

Messages go through a pipe. The arrays of a batch, which may be many megabytes, lie in memory that
both processes share: through the pipe they would be copied four more times, in small parts, and
each part would wait for the event loop. Each direction has two areas, so that a worker can
compute a batch while the server still reads the outputs of the one before.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
from collections.abc import Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

from reformer_export.serving.server.messages import Answer, Infer, Message, Outputs

# Not "fork": the server has threads, and a runtime that was opened before a fork may hang.
SPAWN = multiprocessing.get_context("spawn")

_AREAS = 2

_ALIGNMENT = 64  # bytes; vector instructions read aligned arrays faster

_Place = tuple[int, int]
"""The start and the size of an array, in bytes."""


class Channel:
    """One end. The other end can be given to a process of `SPAWN`.

    The arrays of a received `Infer` or `Outputs` are in the shared memory until the other end sends
    the second `Infer` or `Outputs` after it.
    """

    def __init__(self, connection: Connection, written: _Areas, read: _Areas) -> None:
        self._connection = connection
        self._written, self._read = written, read
        self._next = 0  # the area to write into

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        ours, theirs = SPAWN.Pipe()
        there, back = [[_SharedMemory.new() for _ in range(_AREAS)] for _ in range(2)]
        return cls(ours, there, back), cls(theirs, back, there)

    def send(self, message: Message | Answer) -> None:
        """Send a message; OSError if the other end is closed."""
        buffers: list[pickle.PickleBuffer] = []
        shared = isinstance(message, Infer | Outputs)
        data = pickle.dumps(message, 5, buffer_callback=buffers.append if shared else None)
        area = self._next
        self._connection.send((data, area, self._written[area].write(buffers)))
        if shared:
            self._next = (area + 1) % _AREAS

    def receive(self) -> Any:
        """The next message, when there is one; EOFError or OSError if the other end is closed."""
        data, area, places = self._connection.recv()
        return pickle.loads(data, buffers=self._read[area].views(places))

    def has_message(self) -> bool:
        """True if `receive` would not wait."""
        return self._connection.poll()

    def close(self) -> None:
        """Close the pipe of this end."""
        self._connection.close()


class _SharedMemory:
    """Memory without a name, which grows when more is written and ends with its processes.

    It is not a file in /dev/shm, because that is small in containers (64 MB in Docker).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory: mmap.mmap | None = None

    @classmethod
    def new(cls) -> _SharedMemory:
        """Empty memory."""
        return cls(os.memfd_create("reformer-batch"))

    def __reduce__(self) -> tuple[Any, ...]:
        return _attached, (reduction.DupFd(self._descriptor),)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def write(self, buffers: Sequence[pickle.PickleBuffer]) -> list[_Place]:
        """Copy arrays into the memory; returns their places."""
        views = [buffer.raw() for buffer in buffers]
        places, end = [], 0
        for view in views:
            places.append((end, view.nbytes))
            end += -(-view.nbytes // _ALIGNMENT) * _ALIGNMENT
        if end > os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, end)
        memory = self._up_to(end)
        for (start, size), view in zip(places, views, strict=True):
            memory[start : start + size] = view
        return places

    def views(self, places: Sequence[_Place]) -> list[memoryview]:
        """The arrays at these places, not copied."""
        memory = self._up_to(max((start + size for start, size in places), default=0))
        return [memory[start : start + size] for start, size in places]

    def _up_to(self, end: int) -> memoryview:
        if end and (self._memory is None or len(self._memory) < end):
            self._memory = mmap.mmap(self._descriptor, 0)  # views of the former map keep it
        return memoryview(self._memory or bytearray())


_Areas = Sequence[_SharedMemory]


def _attached(descriptor: Any) -> _SharedMemory:
    """The memory in a process that it was sent to."""
    return _SharedMemory(descriptor.detach())
