"""Which runs on a GPU are captured as CUDA graphs: those of shapes that come again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

MOST_GRAPHS = 8
"""How many shapes a runner captures. A graph keeps its memory as long as the runner."""

Graph = TypeVar("Graph")
Shape = tuple[int, ...]


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
        """The graph for one more run of a shape; None where it is to run without."""
        self._seen[shape] += 1
        return self.capture(shape) if self._seen[shape] > 1 else self._graphs.get(shape)

    def capture(self, shape: Shape) -> Graph | None:
        """The graph of a shape, captured now if need be; None where there are too many."""
        if shape not in self._graphs and len(self._graphs) < MOST_GRAPHS:
            self._graphs[shape] = self._capture(shape, len(self._graphs))
        return self._graphs.get(shape)

    def clear(self) -> None:
        """Give up all graphs."""
        self._graphs.clear()
        self._seen.clear()
