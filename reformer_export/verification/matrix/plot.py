"""Errors by length as a drawing: one runtime a plot, all on the same axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from reformer_export.verification.matrix.report import Contender, number

_WIDTH, _HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 30


class Axes:
    """Lengths side by side, errors by their powers of ten; `bound` is what they are held to."""

    def __init__(self, lengths: Sequence[int], errors: Sequence[float], bound: float) -> None:
        self._lengths = list(lengths)
        self._bound = bound
        seen = [error for error in errors if 0 < error < math.inf]
        self._low = math.floor(math.log10(min([*seen, bound]))) - 1  # below it lies zero
        self._high = math.ceil(math.log10(max([*seen, bound]))) + 1

    def x(self, length: int) -> float:
        """The middle of the length's column."""
        step = (_WIDTH - _LEFT - _RIGHT) / len(self._lengths)
        return _LEFT + (self._lengths.index(length) + 0.5) * step

    def y(self, error: float) -> float:
        """The height of an error: zero at the foot, what is no number at the top."""
        power: float = self._low if error == 0 else self._high
        if 0 < error < math.inf:
            power = max(self._low, min(self._high, math.log10(error)))
        share = (power - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def frame(self) -> Iterator[str]:
        """Grid, labels, and the line of the bound."""
        end = _WIDTH - _RIGHT
        for power in range(self._low, self._high):
            label = "0" if power == self._low else f"1e{power}"
            y = self.y(0 if power == self._low else 10.0**power)
            yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{end}" y2="{y:.1f}"/>'
            yield f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}">{label}</text>'
        for length in self._lengths:
            yield (
                f'<text class="tick foot" x="{self.x(length):.1f}" y="{_HEIGHT - 10}">'
                f"{length}</text>"
            )
        y = self.y(self._bound)
        yield f'<line class="bound" x1="{_LEFT}" y1="{y:.1f}" x2="{end}" y2="{y:.1f}"/>'


def error_plot(contender: Contender, axes: Axes, lengths: Sequence[int]) -> str:
    """A dot for each input, and a line through the worst of each length, as SVG."""
    worst = [
        (axes.x(length), axes.y(max(row.fixed_error for row in rows)))
        for length in lengths
        if (rows := contender.at(length))
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in worst)
    dots = (
        f'<circle class="{"dot" if row.passed else "dot miss"}" r="3.2" '
        f'cx="{axes.x(row.length):.1f}" cy="{axes.y(row.fixed_error):.1f}">'
        f"<title>{row.length} tokens, batch {row.batch}: {number(row.fixed_error)}</title></circle>"
        for row in contender.rows
    )
    label = escape(f"{contender.name}: largest difference by length", quote=True)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'{"".join(axes.frame())}<polyline class="worst" points="{line}"/>{"".join(dots)}</svg>'
    )
