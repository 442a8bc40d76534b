"""The whole of `make bench-attention`: cost and learning of every attention."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.baselines import duplication, speed
from benchmarks.baselines.choices import (
    FULL,
    LINFORMER,
    LOCAL,
    LONGFORMER,
    PERFORMER,
    REFORMER,
    Choice,
)
from benchmarks.baselines.duplication import Learned, Training
from benchmarks.baselines.speed import SpeedReport
from reformer_export.artifact.staging import atomic_file
from reformer_export.bench.files import prepare_folder, write_results
from reformer_export.bench.plots import plot_learning, plot_models
from reformer_export.bench.progress import Progress, prefixed
from reformer_export.cli.tables import markdown
from reformer_export.host.machine import describe_machine, usable_cores

PUPILS: tuple[tuple[Choice, int, bool], ...] = (
    (FULL, 1, True),
    (REFORMER, 1, True),
    (REFORMER, 2, True),
    (REFORMER, 4, True),
    (LOCAL, 1, True),
    (LONGFORMER, 1, True),
    (PERFORMER, 1, True),
    (FULL, 1, False),
    (LINFORMER, 1, False),
    (PERFORMER, 1, False),
)
"""The trainings: the attention, its rounds of hashing (if it hashes), and True if it is causal."""


@dataclass(frozen=True)
class Scope:
    """Lengths and repetitions of the speed measurement; which attentions are trained, and how."""

    lengths: tuple[int, ...]
    repeat: int
    training: Training
    pupils: tuple[tuple[Choice, int, bool], ...]


WHOLE = Scope((1024, 4096, 16384, 65536), 3, Training(300), PUPILS)
QUICK = Scope((1024, 4096), 1, Training(200), (PUPILS[0], PUPILS[2], PUPILS[8]))


@dataclass(frozen=True)
class BaselinesReport:
    """All results; `speed` is None, and `learned` is empty, if that part was not measured."""

    machine: Mapping[str, Any]
    seconds: float
    speed: SpeedReport | None
    training: Training
    learned: tuple[Learned, ...]

    @property
    def failed(self) -> bool:
        """True if a contender failed; a lack of memory or time does not count."""
        found = () if self.speed is None else self.speed.results
        return any(result.status == "failed" for result in found)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {
            "machine": dict(self.machine),
            "seconds": self.seconds,
            "speed": None if self.speed is None else self.speed.to_json(),
            "training": vars(self.training),
            "learned": [learned.to_json() for learned in self.learned],
        }


def run_suite(
    folder: Path,
    *,
    scope: Scope = WHOLE,
    threads: int | None = None,
    parts: tuple[str, ...] = ("speed", "learning"),
    progress: Progress | None = None,
) -> BaselinesReport:
    """Measure, then write results.json, table.md and the plots into `folder`.

    Args:
        folder: created if it is missing. It also holds the artifacts, which are exported again each
            time.
        threads: the number for every contender and training; by default all usable cores.
        parts: the parts to measure.

    Raises:
        ReformerError: an export failed.
        MissingDependencyError: matplotlib is not installed.
    """
    say = progress or (lambda message: None)
    threads = threads or usable_cores()
    prepare_folder(folder)
    start = time.perf_counter()
    found = None
    if "speed" in parts:
        found = speed.measure_speed(
            folder, lengths=scope.lengths, threads=threads, repeat=scope.repeat, progress=say
        )
    learned = _learn(scope, threads, say) if "learning" in parts else ()
    report = BaselinesReport(
        machine=describe_machine(),
        seconds=time.perf_counter() - start,
        speed=found,
        training=scope.training,
        learned=learned,
    )
    _write(folder, report)
    return report


def _learn(scope: Scope, threads: int, say: Progress) -> tuple[Learned, ...]:
    found = []
    for choice, rounds, causal in scope.pupils:
        label = choice.title
        if choice is REFORMER:
            label += f", {rounds} round{'s' if rounds > 1 else ''}"
        if not causal:
            label += ", fill in"
        found.append(
            duplication.learn(
                choice,
                label,
                scope.training,
                threads=threads,
                causal=causal,
                skeleton=duplication.skeleton(rounds),
                progress=prefixed(say, label),
            )
        )
    return tuple(found)


def _write(folder: Path, report: BaselinesReport) -> None:
    write_results(folder, report.to_json())
    tables = []
    if report.speed is not None:
        tables.append(markdown(speed.HEADER, report.speed.rows()))
        plot_models(report.speed.results, folder / "cost.png", "one forward pass, 4 layers")
    if report.learned:
        tables.append(markdown(duplication.HEADER, (one.row() for one in report.learned)))
        curves = {one.name: one.accuracy for one in report.learned}
        plot_learning(curves, folder / "learning.png", "duplication task")
    with atomic_file(folder / "table.md") as file:
        file.write("\n".join(tables).encode())
