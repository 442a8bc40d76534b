"""The measurements of `make bench-weights`."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.suite import EXAMPLES, SHAPES, make_checkpoint
from reformer_export import open_generator, open_runner, to_onnx
from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import require_tokens
from reformer_export.bench.interleaved_timing import median, take_turns, timed
from reformer_export.errors import ExportError
from reformer_export.runtimes.base import Runner
from reformer_export.runtimes.decoder import Decoder

Progress = Callable[[str], None]

BIBLE = "bible-reformer"
FULL: Mapping[str, tuple[int, ...]] = {
    BIBLE: (1, 64, 512, 1024),
    "cp": (1, 64, 1024, 4096, 16384),
    "enwik8-cut": (1, 64, 1024, 4096),
}
"""Lengths by model."""
QUICK: Mapping[str, tuple[int, ...]] = {BIBLE: (64, 1024), "cp": (64, 4096)}

HEADER = (
    "model",
    "weights",
    "size",
    "loss of bits",
    "flips",
    "equal",
    "speed-up",
    "a step",
    "peak memory",
)

WEIGHTS = ("int8", "int4", "fp16")

_CONTEXT, _STEPS = 512, 200
_ROUNDS = 7
# Runs a model once and prints the peak memory of the process, in bytes.
_PEAK = """
import sys, numpy
from reformer_export import open_runner
from reformer_export.host.memory import own_peak_rss
runner = open_runner(sys.argv[1], threads=int(sys.argv[3]) or None)
runner.run({"input_ids": numpy.zeros((1, int(sys.argv[2])), numpy.int64)})
print(own_peak_rss())
"""


@dataclass(frozen=True)
class WeightsRow:
    """One model with weights of fewer bits, compared with fp32.

    Attributes:
        model: its name.
        weights: of `WEIGHTS`.
        bytes: the size of model.onnx in fp32 and with fewer bits.
        quality: the record of the export.
        speed: by length, how many times as fast a run is.
        step: how many times as fast a step of generation is.
        peak: by length, the peak memory divided by that in fp32.
    """

    model: str
    weights: str
    bytes: tuple[int, int]
    quality: Mapping[str, Any]
    speed: Mapping[int, float]
    step: float
    peak: Mapping[int, float]

    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        loss, flips = self.quality["loss"], self.quality["flips"]
        before, after = self.bytes
        return (
            self.model,
            self.weights,
            f"{before / 1e6:.1f} -> {after / 1e6:.1f} MB ({after / before:.2f})",
            "" if loss is None else f"{loss:+.2%}",
            "" if flips is None else f"{flips:.2%}",
            f"{self.quality['agreement']:.2%}",
            ", ".join(f"{length:,}: {ratio:.2f}x" for length, ratio in self.speed.items()),
            f"{self.step:.2f}x",
            ", ".join(f"{length:,}: {ratio:.2f}x" for length, ratio in self.peak.items()),
        )

    def to_json(self) -> dict[str, Any]:
        """The row as an object."""
        return asdict(self)


def measure(
    folder: Path,
    lengths: Mapping[str, tuple[int, ...]],
    *,
    threads: int | None,
    progress: Progress,
) -> list[WeightsRow]:
    """Export each model in fp32 and with fewer bits into `folder`, and compare the artifacts.

    Raises:
        ReformerError: an export or a run failed.
    """
    return [
        row
        for name, each in lengths.items()
        for row in _measure(name, folder / name, each, threads, progress)
    ]


def _measure(
    name: str, folder: Path, lengths: tuple[int, ...], threads: int | None, say: Progress
) -> Iterator[WeightsRow]:
    checkpoint, text = folder / "checkpoint", None
    if name == BIBLE:
        checkpoint = EXAMPLES / BIBLE
        text = checkpoint / "held_out.txt"
    else:
        make_checkpoint(checkpoint, SHAPES[name])
    say(f"{name}: exporting in fp32")
    task = "text-generation-with-past"
    full = to_onnx(checkpoint, folder / "fp32", task=task, verify=False, force=True)
    longest = lengths[-1]
    full_peak = _peak(full, longest, threads)
    for weights in WEIGHTS:
        say(f"{name}: exporting with {weights}")
        # Random weights predict nothing, so only a trained model has a text.
        small = to_onnx(
            checkpoint, folder / weights, task=task, weights=weights, calibration=text, force=True
        )
        record = small.manifest.weights
        quality = record.quality if record is not None else None
        if quality is None:
            raise ExportError(f"the export of {name} did not record its quality")
        say(f"{name}: timing {weights}")
        yield WeightsRow(
            name,
            weights,
            (full.manifest.files["model.onnx"].bytes, small.manifest.files["model.onnx"].bytes),
            quality,
            {length: _speed(full, small, length, threads) for length in lengths},
            _step(full, small, threads),
            {longest: _peak(small, longest, threads) / full_peak},
        )


def _speed(full: Artifact, small: Artifact, length: int, threads: int | None) -> float:
    runners = {
        "fp32": open_runner(full, threads=threads),
        "small": open_runner(small, threads=threads),
    }
    ids = np.random.default_rng(0).integers(
        require_tokens(full.signature, "bench").vocab_size, size=(1, length)
    )

    def run(runner: Runner) -> object:
        return runner.run({"input_ids": ids})

    for runner in runners.values():
        run(runner)
    turns = {name: partial(timed, partial(run, runner)) for name, runner in runners.items()}
    return median(take_turns(turns, repeat=_ROUNDS, budget=60).ratios("fp32", "small")) or 0.0


def _step(full: Artifact, small: Artifact, threads: int | None) -> float:
    """One row, after a prompt of `_CONTEXT` tokens."""
    turns = {
        name: _steps(open_generator(artifact, threads=threads).decoder)
        for name, artifact in (("fp32", full), ("small", small))
    }
    return median(take_turns(turns, repeat=_ROUNDS, budget=60).ratios("fp32", "small")) or 0.0


def _steps(decoder: Decoder) -> Callable[[], float]:
    """A turn of `_STEPS` steps, which returns the seconds of one."""
    _, prompt = decoder.prefill([np.arange(_CONTEXT) % 200], capacity=_CONTEXT + _STEPS)

    def turn() -> float:
        cache = copy.deepcopy(prompt)
        start = time.perf_counter()
        for _ in range(_STEPS):
            decoder.step(np.array([5]), cache)
        return (time.perf_counter() - start) / _STEPS

    turn()
    return turn


def _peak(artifact: Artifact, length: int, threads: int | None) -> float:
    command = [sys.executable, "-c", _PEAK, str(artifact.path), str(length), str(threads or 0)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)
