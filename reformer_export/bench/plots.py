"""Plots of time and memory against length. The axes are logarithmic, so the slope is the order of
growth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer_export.bench.contenders import FULL, HF, OURS, PORTABLE
from reformer_export.bench.report import OK, Result
from reformer_export.host.optional import require

if TYPE_CHECKING:
    from reformer_export.bench.ops import OpResult

Points = Sequence[tuple[int, float]]

_LABELS = {
    OURS: "reformer-export",
    PORTABLE: "reformer-export, portable operators",
    HF: "Hugging Face, eager",
    FULL: "full attention (torch SDPA)",
}
_WIDTH, _HEIGHT, _DPI = 5.0, 4.2, 150
_MANY = 5  # with more lines than this, a legend inside the panel would hide some of them


def check_plotting() -> None:
    """Raises MissingDependencyError if plots cannot be drawn. Call it before measuring."""
    _figure_class()


def plot_models(results: Iterable[Result], path: Path, title: str) -> Path:
    """Write a PNG with time and peak memory of every contender."""
    measured = [result for result in results if result.status == OK]
    names = list(dict.fromkeys(result.contender for result in measured))

    def points(name: str, field: str, scale: float) -> Points:
        pairs = ((r.length, getattr(r, field)) for r in measured if r.contender == name)
        return sorted((length, value * scale) for length, value in pairs if value is not None)

    time = {_LABELS.get(name, name): points(name, "median_seconds", 1.0) for name in names}
    space = {_LABELS.get(name, name): points(name, "peak_rss", 1e-9) for name in names}
    return draw(path, title, {"time": time, "peak memory of the process": space}, ("s", "GB"))


def plot_learning(
    curves: Mapping[str, Sequence[tuple[int, float]]], path: Path, title: str
) -> Path:
    """Write a PNG with the accuracy against training steps."""
    figure = _figure_class()(figsize=(1.6 * _WIDTH, _HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    for label, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=label)
    axes.set(title=title, xlabel="steps", ylabel="accuracy", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=_DPI)
    return path


def plot_ops(results: Iterable[OpResult], path: Path, title: str) -> Path:
    """Write a PNG that compares the time of hashing and attention with torch's SDPA, with one panel
    for each layer."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for result in results:
        if result.against != "sdpa" or result.status != OK:
            continue
        panel = panels.setdefault(result.layer, {})
        for label, seconds in (
            ("reformer-export", result.seconds),
            ("torch SDPA, causal", result.other_seconds),
        ):
            middle = sorted(seconds)[len(seconds) // 2]
            panel.setdefault(label, []).append((result.length, middle))
    return draw(path, title, panels, ["s"] * len(panels))


def draw(
    path: Path,
    title: str,
    panels: Mapping[str, Mapping[str, Points]],
    units: Sequence[str],
    along: Sequence[str] = (),
) -> Path:
    """Write a PNG with one panel for each group of lines; all axes are logarithmic.

    Args:
        path: the file to write.
        title: the title above all panels.
        panels: title of a panel -> label of a line -> its points.
        units: the units of the vertical axes, one for each panel.
        along: the labels of the horizontal axes, one for each panel; "tokens" if empty.
    """
    figure = _figure_class()(figsize=(_WIDTH * max(1, len(panels)), _HEIGHT), layout="constrained")
    figure.suptitle(title)
    for number, (name, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), number + 1)
        for label, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
        lengths = sorted({length for points in lines.values() for length, _ in points})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        values = [value for points in lines.values() for _, value in points]
        if values:  # limits at whole decades, so that the axis has numbered ticks
            axes.set_ylim(10 ** floor(log10(min(values))), 10 ** ceil(log10(max(values))))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.set_xlabel(along[number] if along else "tokens")
        axes.set_ylabel(units[number])
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
        if number == 0 and len(lines) > _MANY:
            figure.legend(loc="outside right center", fontsize="small")
        elif number == 0 and lines:
            axes.legend()
    figure.savefig(path, dpi=_DPI)
    return path


def _figure_class() -> Any:
    purpose, package = "drawing plots", "reformer-export[bench]"
    return require("matplotlib.figure", purpose=purpose, package=package).Figure
