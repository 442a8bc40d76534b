"""Targets for the times of whole models, and whether they are met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MODELS = "Whole models, ms"
OPERATORS = "Operators alone, ms"
CEILINGS = "What the GPU can do"

EAGER, REPLAYED, HF = "torch eager", "torch replayed", "Transformers eager"
GRAPH, PLAIN, BODIES = "onnxruntime, CUDA graph", "onnxruntime, no graph", "function bodies"

BESIDE_TORCH = 1.2
"""Target: onnxruntime with a graph takes at most this many times as long as torch replayed."""

OVER_BODIES = 50.0
"""Target: our kernels are at least this many times as fast as function bodies."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A target: at most `most` milliseconds."""

    model: str
    lengths: tuple[int, ...]
    column: str
    most: float


TARGETS = (
    Target("c&p fp16", (1, 64, 1024, 4096), GRAPH, 1.0),
    Target("c&p fp16", (1, 64, 1024, 4096), PLAIN, 2.5),
    Target("c&p fp16", (65536,), GRAPH, 4.5),
    Target("c&p fp32", (65536,), GRAPH, 14.0),
    Target("enwik8 cut fp16", (16384,), GRAPH, 7.0),
)


def row_name(model: str, length: int) -> str:
    """The name of a row of `MODELS`."""
    return f"{model}, {length:,} tokens"


def verdicts(rows: Mapping[str, Row]) -> Iterator[str]:
    """A sentence for each target that was measured."""
    for target in TARGETS:
        for length in target.lengths:
            name = row_name(target.model, length)
            found = _figure(rows.get(name, {}), target.column)
            if found is not None:
                yield _verdict(
                    f"{name}, {target.column}: {found:.2f} ms, at most {target.most:g}",
                    found <= target.most,
                )
    yield from _ratios(
        rows, GRAPH, REPLAYED, f"at most {BESIDE_TORCH:g}", lambda r: r <= BESIDE_TORCH
    )
    yield from _ratios(rows, BODIES, GRAPH, f"at least {OVER_BODIES:g}", lambda r: r >= OVER_BODIES)


def _ratios(
    rows: Mapping[str, Row], above: str, below: str, wanted: str, good: Callable[[float], bool]
) -> Iterator[str]:
    for name, row in rows.items():
        first, second = _figure(row, above), _figure(row, below)
        if first is not None and second:
            ratio = first / second
            yield _verdict(
                f"{name}, {above} takes {ratio:.2f} times as long as {below}, {wanted}",
                good(ratio),
            )


def _figure(row: Row, column: str) -> float | None:
    found = row.get(column)
    return float(found) if isinstance(found, int | float) else None


def _verdict(text: str, good: bool) -> str:
    return f"{'met' if good else 'MISSED'}: {text}"
