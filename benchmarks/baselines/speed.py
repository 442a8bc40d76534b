"""Time and memory of one forward pass, by length. Each contender runs in its own process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.baselines.artifacts import export_choice
from benchmarks.baselines.choices import (
    FULL,
    LINFORMER,
    LOCAL,
    LONGFORMER,
    PERFORMER,
    REFORMER,
    Choice,
    Skeleton,
)
from reformer_export.bench import bench_artifact
from reformer_export.bench.contenders import FULL as TORCH
from reformer_export.bench.contenders import OURS, PORTABLE
from reformer_export.bench.progress import Progress, prefixed
from reformer_export.bench.report import OK, Result, number_text, seconds_text

SKELETON = Skeleton(max_length=65536, axial_shape=(256, 256), keys=256, rounds=2, layers=4)

LINEUP: tuple[tuple[Choice, dict[str, str]], ...] = (
    (REFORMER, {OURS: "Reformer (LSH), native", PORTABLE: "Reformer (LSH)"}),
    (LOCAL, {OURS: "local layers, native", PORTABLE: "local layers", TORCH: "full, torch SDPA"}),
    (LONGFORMER, {OURS: "Longformer"}),
    (LINFORMER, {OURS: "Linformer (bidirectional)"}),
    (PERFORMER, {OURS: "Performer"}),
    (FULL, {OURS: "full, exported"}),
)
"""The choice of each artifact, and the labels of its contenders. "full, torch SDPA" uses the
projections of the local layers and torch's attention kernel. All others run in ONNX Runtime: with
native operators if the label says "native", else with standard operators."""


@dataclass(frozen=True)
class Measured:
    """One attention at one length.

    `expected` is the estimated time in seconds of a run that was refused or failed, extrapolated
    from the longest measured length; None if the run was measured, or if no
    shorter length was measured.
    """

    result: Result
    expected: float | None = None

    def row(self) -> Sequence[str]:
        """The row under `HEADER`."""
        result = self.result
        if result.status == OK:
            return (
                f"{result.length:,}",
                result.contender,
                seconds_text(result.median_seconds),
                number_text(result.tokens_per_second, "{:,.0f}"),
                number_text(result.peak_rss and result.peak_rss / 1e9, "{:.2f} GB"),
                "",
            )
        note = f"{result.status}: {result.reason}"
        if self.expected is not None:
            note += f"; {seconds_text(self.expected)} by extrapolation"
        return f"{result.length:,}", result.contender, "-", "-", "-", note

    def to_json(self) -> dict[str, Any]:
        """As an object of results.json."""
        return {**self.result.to_json(None), "extrapolated_seconds": self.expected}


HEADER = ("tokens", "attention", "time", "tokens/s", "peak memory", "not measured because")


@dataclass(frozen=True)
class SpeedReport:
    """All attentions at all lengths."""

    threads: int
    measured: tuple[Measured, ...]
    notes: tuple[str, ...]

    @property
    def results(self) -> list[Result]:
        """The results, for a plot."""
        return [item.result for item in self.measured]

    def rows(self) -> Iterator[Sequence[str]]:
        """The rows, sorted by length, then in the order of `LINEUP`."""
        ordered = sorted(self.measured, key=lambda item: item.result.length)
        yield from (item.row() for item in ordered)

    def to_json(self) -> dict[str, Any]:
        """As an object of results.json."""
        return {
            "threads": self.threads,
            "results": [item.to_json() for item in self.measured],
            "notes": list(self.notes),
        }


def measure_speed(
    folder: Path,
    *,
    lengths: Sequence[int],
    threads: int,
    repeat: int = 3,
    patience: float = 60.0,
    skeleton: Skeleton = SKELETON,
    lineup: Sequence[tuple[Choice, dict[str, str]]] = LINEUP,
    progress: Progress | None = None,
) -> SpeedReport:
    """Export every choice into `folder`, and time its forward pass of one sequence.

    Args:
        folder: receives one folder for each choice, with its checkpoint and artifact.
        lengths: tokens; at most the skeleton's `max_length`.
        repeat: the number of runs of each contender after its warm-up.
        patience: seconds; a run expected to take longer is refused, with the reason.

    Raises:
        ReformerError: an export failed. A run that fails is in the report instead.
    """
    say = progress or (lambda message: None)
    measured: list[Measured] = []
    notes: dict[str, None] = {}
    for choice, labels in lineup:
        say(f"exporting {choice.title}")
        artifact = export_choice(choice, skeleton, folder / choice.name)
        report = bench_artifact(
            artifact,
            lengths=lengths,
            threads=threads,
            against=[name for name in labels if name != OURS],
            repeat=repeat,
            patience=patience,
            progress=prefixed(say, choice.title),
        )
        for name, label in labels.items():
            own = [replace(r, contender=label) for r in report.results if r.contender == name]
            order = 2 if choice is FULL or name == TORCH else 1
            measured += with_expectations(own, order)
        notes |= dict.fromkeys(f"{choice.title}: {note}" for note in report.notes())
    return SpeedReport(threads, tuple(measured), tuple(notes))


def with_expectations(results: Sequence[Result], order: int) -> Iterator[Measured]:
    """The results of one attention by length, with the expected times of those not measured.

    The time is assumed to grow with the length to the power `order`. Parts of a model are linear in
    the length, so the estimate of order 2 is more likely too high than too low.
    """
    known = [(r.length, r.median_seconds) for r in results if r.median_seconds is not None]
    for result in results:
        expected = None
        if result.status != OK and known and result.length > known[-1][0]:
            length, seconds = known[-1]
            expected = seconds * (result.length / length) ** order
        yield Measured(result, expected)
