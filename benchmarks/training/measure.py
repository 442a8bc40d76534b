"""`make bench-train`: memory by depth and length, and time compared with others."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from benchmarks.training.steps import FULL, HF, OURS, STORING, Step, config_for
from reformer_export.bench.interleaved_timing import Turns, take_turns, timed
from reformer_export.bench.progress import Progress
from reformer_export.host.machine import describe_machine, usable_cores


@dataclass(frozen=True)
class Scope:
    """What is measured.

    Attributes:
        depths: numbers of layers, measured at `depth_length` tokens.
        lengths: numbers of tokens, measured with six layers. A contender is not measured at lengths
            above its `longest`.
        timed: lengths at which steps are timed by turns, with `repeat` steps of each contender.
    """

    depths: tuple[int, ...] = (2, 4, 6, 12, 24)
    depth_length: int = 4096
    lengths: tuple[int, ...] = (1024, 4096, 16384, 65536)
    timed: tuple[int, ...] = (1024, 4096, 16384)
    repeat: int = 5
    # Above these lengths stored activations need too much memory, and full attention takes too
    # long.
    longest: tuple[tuple[str, int], ...] = ((STORING, 16384), (HF, 16384), (FULL, 16384))


FULL_SCOPE = Scope()
QUICK_SCOPE = Scope(depths=(2, 6, 12), depth_length=1024, lengths=(1024, 4096), timed=(1024,))


@dataclass(frozen=True)
class Memory:
    """Peak bytes of activations in a step, and the seconds of a step."""

    who: str
    layers: int
    length: int
    activation_bytes: int
    seconds: float


@dataclass(frozen=True)
class Time:
    """Seconds of a step in each round, and their ratios to our seconds in the same round."""

    who: str
    length: int
    dropout: float
    seconds: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """The time of a step as a multiple of ours: the median over the rounds."""
        return statistics.median(self.ratios)


@dataclass
class TrainingReport:
    """All results."""

    threads: int
    machine: dict[str, Any]
    depth: list[Memory] = field(default_factory=list)
    length: list[Memory] = field(default_factory=list)
    time: list[Time] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return asdict(self)


def bench_training(
    scope: Scope = FULL_SCOPE, *, threads: int | None = None, progress: Progress | None = None
) -> TrainingReport:
    """Measure training steps of the crime-and-punishment shape, with one sequence in each step.

    Args:
        scope: what to measure.
        threads: the number of torch's threads; by default all usable cores.
        progress: receives progress messages.

    Raises:
        MissingDependencyError: torch or transformers is not installed.
    """
    import torch

    threads = threads or usable_cores()
    torch.set_num_threads(threads)
    report = TrainingReport(threads, describe_machine())
    say = progress or (lambda message: None)
    for layers in scope.depths:
        for who in (OURS, STORING, HF):
            say(f"memory of {layers} layers: {who}")
            report.depth.append(_memory(who, scope.depth_length, layers))
    longest = dict(scope.longest)
    for length in scope.lengths:
        for who in (OURS, STORING, HF, FULL):
            if length <= longest.get(who, length):
                say(f"memory of {length} tokens: {who}")
                report.length.append(_memory(who, length, 6))
    for length in scope.timed:
        for dropout in (0.0, 0.05):
            report.time += _times(length, dropout, scope.repeat, say, report.notes)
    return report


def _memory(who: str, length: int, layers: int) -> Memory:
    step = Step(who, config_for(length, layers=layers))
    start = time.perf_counter()
    step.run()
    seconds = time.perf_counter() - start
    found = Memory(who, layers, length, step.activation_bytes(), seconds)
    del step
    gc.collect()
    return found


def _times(
    length: int, dropout: float, repeat: int, say: Progress, notes: list[str]
) -> Sequence[Time]:
    config = config_for(length, dropout=dropout)
    steps = {who: Step(who, config) for who in (OURS, STORING, HF, FULL)}
    for step in steps.values():
        step.run()
    turns: Turns = take_turns(
        {who: partial(timed, step.run) for who, step in steps.items()},
        repeat=repeat,
        budget=120.0,
        progress=lambda message: say(f"{length} tokens, dropout {dropout:g}, {message}"),
    )
    notes += [f"{who} at {length} tokens: {error}" for who, error in turns.failures.items()]
    return [
        Time(who, length, dropout, tuple(turns.of(who)), tuple(turns.ratios(who, OURS)))
        for who in steps
        if turns.of(who)
    ]
