"""Which runs on a GPU are captured as CUDA graphs: those of shapes that come again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

MOST_GRAPHS = 8
"""How many shapes a runner captures. A graph keeps its memory as long as the runner."""

Graph = TypeVar("Graph")
Shape = tuple[int, ...]


class _Turns:
    """Any number of runs at once, or one capture alone.

    While a thread captures a graph, CUDA lets no other thread of the process allocate or wait.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._capturing = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """For runs that use a GPU and capture nothing."""
        with self._changed:
            self._changed.wait_for(lambda: not self._capturing)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """For a capture: waits until no run is active and blocks new ones."""
        with self._changed:
            self._changed.wait_for(lambda: not self._capturing)
            self._capturing = True
            self._changed.wait_for(lambda: self._running == 0)
        try:
            yield
        finally:
            with self._changed:
                self._capturing = False
                self._changed.notify_all()


TURNS = _Turns()
"""Of this process, for the runners of all runtimes on all GPUs."""


class RecurringShapes(Generic[Graph]):
    """What was captured, by shape. A shape is captured when it comes for the second time."""

    def __init__(self, capture: Callable[[Shape, int], Graph]) -> None:
        """`capture` makes the graph of a shape; it is told how many there are already."""
        self._capture = capture
        self._seen: Counter[Shape] = Counter()
        self._graphs: dict[Shape, Graph] = {}

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Those that are captured, in order."""
        return tuple(self._graphs)

    def get(self, shape: Shape) -> Graph | None:
        """The graph for one more run of a shape; None if it is to run without."""
        self._seen[shape] += 1
        return self.capture(shape) if self._seen[shape] > 1 else self._graphs.get(shape)

    def capture(self, shape: Shape) -> Graph | None:
        """The graph of a shape, captured now if need be; None if there are too many."""
        if shape not in self._graphs and len(self._graphs) < MOST_GRAPHS:
            self._graphs[shape] = self._capture(shape, len(self._graphs))
        return self._graphs.get(shape)

    def clear(self) -> None:
        """Give up all graphs."""
        self._graphs.clear()
        self._seen.clear()
