"""Plots of the errors by length: one plot for each runtime, all with the same axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from reformer_export.verification.matrix.report import Contender, number

_RIGHT, _TOP, _BOTTOM = 10, 10, 30


class Axes:
    """Lengths on equally spaced columns, errors on a log10 scale; coordinates are in pixels."""

    width, height, left = 320, 190, 46
    end = width - _RIGHT

    def __init__(self, lengths: Sequence[int], errors: Sequence[float], bound: float) -> None:
        self._lengths = list(lengths)
        seen = [error for error in errors if 0 < error < math.inf]
        self._low = math.floor(math.log10(min([*seen, bound]))) - 1  # zero is drawn here
        self._high = math.ceil(math.log10(max([*seen, bound]))) + 1
        self.bound = self.y(bound)

    def x(self, length: int) -> float:
        """The x coordinate of a length: the middle of its column."""
        step = (self.end - self.left) / len(self._lengths)
        return round(self.left + (self._lengths.index(length) + 0.5) * step, 1)

    def y(self, error: float) -> float:
        """The y coordinate of an error: zero at the bottom, infinity and NaN at the top."""
        power: float = self._low if error == 0 else self._high
        if 0 < error < math.inf:
            power = max(self._low, min(self._high, math.log10(error)))
        share = (power - self._low) / (self._high - self._low)
        return round(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM), 1)

    def powers(self) -> Iterator[dict[str, Any]]:
        """Horizontal lines of the grid, with labels."""
        yield {"y": self.y(0), "label": "0"}
        for power in range(self._low + 1, self._high):
            yield {"y": self.y(10.0**power), "label": f"1e{power}"}

    def columns(self) -> Iterator[dict[str, Any]]:
        """Labels of the lengths."""
        for length in self._lengths:
            yield {"x": self.x(length), "label": str(length)}


def error_plot(contender: Contender, axes: Axes, lengths: Sequence[int]) -> dict[str, Any]:
    """A dot for each input, and a line through the largest error of each length."""
    worst = [
        (axes.x(length), axes.y(max(row.fixed_error for row in rows)))
        for length in lengths
        if (rows := contender.at(length))
    ]
    return {
        "name": contender.name,
        "label": f"{contender.name}: largest difference by length",
        "worst": " ".join(f"{x},{y}" for x, y in worst),
        "dots": [
            {
                "x": axes.x(row.length),
                "y": axes.y(row.fixed_error),
                "missed": not row.passed,
                "label": f"{row.length} tokens, batch {row.batch}: {number(row.fixed_error)}",
            }
            for row in contender.rows
        ],
    }
