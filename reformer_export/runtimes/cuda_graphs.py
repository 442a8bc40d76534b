"""Decides which runs on a GPU are captured as CUDA graphs: those whose shape is repeated."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

MOST_GRAPHS = 8
"""The maximum number of shapes that a runner captures. A graph keeps its memory until the runner is
closed."""

Graph = TypeVar("Graph")
Shape = tuple[int, ...]


class _Turns:
    """Allows any number of runs at the same time, or a single capture.

    While one thread captures a graph, CUDA does not let other threads of the process allocate
    memory or wait for the GPU.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._capturing = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context for a run that uses a GPU and captures nothing."""
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
        """A context for a capture: waits until no run is active, and blocks new runs."""
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
"""The only instance in this process, shared by the runners of all runtimes on all GPUs."""


class RecurringShapes(Generic[Graph]):
    """The captured graphs by shape. A shape is captured when it occurs for the second time."""

    def __init__(self, capture: Callable[[Shape, int], Graph]) -> None:
        """`capture` creates the graph of a shape; its second argument is the number of graphs that
        already exist."""
        self._capture = capture
        self._seen: Counter[Shape] = Counter()
        self._graphs: dict[Shape, Graph] = {}

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The captured shapes, in the order of capture."""
        return tuple(self._graphs)

    def get(self, shape: Shape) -> Graph | None:
        """The graph for the next run of a shape; None if the run uses no graph."""
        self._seen[shape] += 1
        return self.capture(shape) if self._seen[shape] > 1 else self._graphs.get(shape)

    def capture(self, shape: Shape) -> Graph | None:
        """The graph of a shape, captured now if necessary; None if there are too many graphs."""
        if shape not in self._graphs and len(self._graphs) < MOST_GRAPHS:
            self._graphs[shape] = self._capture(shape, len(self._graphs))
        return self._graphs.get(shape)

    def clear(self) -> None:
        """Drop all graphs."""
        self._graphs.clear()
        self._seen.clear()
