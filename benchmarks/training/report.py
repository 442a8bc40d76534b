"""The results as tables and plots, and compared with our promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.bars import HEADER, Bar
from benchmarks.training.measure import Memory, Time, TrainingReport
from benchmarks.training.steps import HF, LABELS, OURS, STORING
from reformer_export.bench.files import write_results
from reformer_export.bench.plots import draw
from reformer_export.cli.tables import markdown

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]

_MB = 1e-6


def tables(report: TrainingReport) -> dict[str, Rows]:
    """Header and rows of every table, by title."""
    return {
        "Peak memory of activations against depth": _memory_rows(report.depth, "layers"),
        "Peak memory of activations against length": _memory_rows(report.length, "length"),
        "Seconds of a step": _time_rows(report.time),
        "What we promise": (HEADER, [bar.row() for bar in promises(report)]),
    }


def promises(report: TrainingReport) -> list[Bar]:
    """Our promises for training, compared with the measured values."""
    ours = [memory.activation_bytes for memory in report.depth if memory.who == OURS]
    storing = [memory for memory in report.depth if memory.who == STORING]
    bars = []
    if len(ours) > 1:
        depths = f"{report.depth[0].layers} to {report.depth[-1].layers} layers"
        spread = max(ours) / min(ours)
        bars.append(Bar("memory, deepest to shallowest", depths, 1.05, spread, at_most=True))
        growth = storing[-1].activation_bytes / storing[0].activation_bytes
        deeper = storing[-1].layers / storing[0].layers
        bars.append(Bar("the same where activations are stored", depths, deeper / 2, growth))
    bars += [
        Bar("time of Hugging Face's step", f"{time.length} tokens", 3.0, time.ratio)
        for time in report.time
        if time.who == HF and time.length == 4096 and time.dropout  # as in the published config
    ]
    return bars


def write_report(folder: Path, report: TrainingReport) -> None:
    """Write results.json, table.md and training.png into `folder`."""
    write_results(folder, report.to_json())
    parts = (f"{title}\n\n{markdown(*rows)}" for title, rows in tables(report).items())
    (folder / "table.md").write_text("\n".join(parts), encoding="utf-8")
    panels = {
        "activations against depth": _lines(report.depth, "layers"),
        "activations against length": _lines(report.length, "length"),
        "time of a step": _time_lines(report.time),
    }
    title = "Training, crime-and-punishment shape"
    draw(folder / "training.png", title, panels, ("MB", "MB", "s"), ("layers", "tokens", "tokens"))


def _memory_rows(found: Iterable[Memory], axis: str) -> Rows:
    by_place: dict[int, dict[str, Memory]] = {}
    for memory in found:
        by_place.setdefault(getattr(memory, axis), {})[memory.who] = memory
    names = [who for who in LABELS if any(who in row for row in by_place.values())]
    header = (axis, *(f"{LABELS[who]}, MB" for who in names), "seconds of our step")
    rows = [
        (
            f"{place}",
            *(f"{row[who].activation_bytes * _MB:.1f}" if who in row else "" for who in names),
            f"{row[OURS].seconds:.2f}" if OURS in row else "",
        )
        for place, row in by_place.items()
    ]
    return header, rows


def _time_rows(found: Iterable[Time]) -> Rows:
    header = ("tokens", "dropout", "who", "median", "times ours", "rounds")
    rows = [
        (
            f"{time.length}",
            f"{time.dropout:g}",
            LABELS[time.who],
            f"{time.median:.3f}",
            f"{time.ratio:.2f}",
            f"{len(time.seconds)}",
        )
        for time in found
    ]
    return header, rows


def _lines(found: Sequence[Memory], axis: str) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {}
    for memory in found:
        point = (getattr(memory, axis), memory.activation_bytes * _MB)
        lines.setdefault(LABELS[memory.who], []).append(point)
    return lines


def _time_lines(found: Iterable[Time]) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {}
    for time in found:
        if time.dropout == 0:
            lines.setdefault(LABELS[time.who], []).append((time.length, time.median))
    return lines
