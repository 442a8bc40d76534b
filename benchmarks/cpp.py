"""Compares the C++ runtime with Python's ONNX Runtime: python -m benchmarks.cpp ARTIFACT

Library, kernels, model, input and threads are the same. Whole processes run by turns, and ratios
are computed within a round, so a short slowdown of the machine affects both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import require_tokens
from reformer_export.cli.tables import console, table
from reformer_export.errors import InferenceError, ReformerError
from reformer_export.host.cpp_program import find_program
from reformer_export.host.machine import usable_cores
from reformer_export.runtimes.cpp_runner import libraries

HEADER = ("tokens", "what", "Python", "C++", "C++ / Python", "from", "to")
_MEASURED = {
    "a run": lambda result: result["bench"]["median_seconds"],
    "opening the model": lambda result: result["open_seconds"],
    "the whole process": lambda result: result["process_seconds"],
    "peak memory, MB": lambda result: result["bench"]["peak_rss_bytes"] / 1e6,
}
_BUSY = 1.0  # minimum seconds of all runs of one turn


@click.command("python -m benchmarks.cpp")
@click.argument("artifact", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--lengths", default="64,1024,4096", show_default=True, metavar="N,N...")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="[default: all cores]")
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
def main(artifact: Path, lengths: str, threads: int | None, rounds: int) -> None:
    """Time reformer-run and `reformer-export run` by turns; show medians and ranges of ratios."""
    try:
        rows = [
            row
            for length in map(int, lengths.split(","))
            for row in compare(artifact, length, threads or usable_cores(), rounds)
        ]
    except ReformerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    console().print(table("The C++ runtime beside Python", HEADER, rows))


def compare(artifact: Path, length: int, threads: int, rounds: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table for inputs of one sequence of `length` tokens.

    Raises:
        RuntimeUnavailableError: `reformer-run` is missing.
        InferenceError: one of the two programs failed.
    """
    program = str(find_program("onnxruntime").path)
    commands = {"Python": [sys.executable, "-m", "reformer_export", "run"], "C++": [program]}
    vocabulary = require_tokens(Artifact.open(artifact).signature, "bench").vocab_size
    with tempfile.TemporaryDirectory(prefix="reformer-bench-") as folder:
        ids = Path(folder) / "ids.npy"
        np.save(ids, np.random.default_rng(0).integers(0, vocabulary, (1, length)))
        arguments = [str(artifact), "--input-ids", str(ids), "--runtime", "onnxruntime"]
        arguments += ["--threads", str(threads), "--json"]
        first = _turn(commands, [*arguments, "--bench", "1"])
        once = min(result["run_seconds"] for result in first)
        runs = str(max(3, round(_BUSY / once)))
        turns = [_turn(commands, [*arguments, "--bench", runs]) for _ in range(rounds)]
    for what, measured in _MEASURED.items():
        pairs = [(measured(python), measured(cpp)) for python, cpp in turns]
        ratios = [cpp / python for python, cpp in pairs]
        medians = (statistics.median(side) for side in zip(*pairs, strict=True))
        numbers = [*medians, statistics.median(ratios), min(ratios), max(ratios)]
        yield (f"{length:,}", what, *(f"{number:.4g}" for number in numbers))


def _turn(commands: Mapping[str, list[str]], arguments: list[str]) -> list[dict[str, Any]]:
    """Run each program once; returns their outputs in the same order."""
    results = []
    for name, command in commands.items():
        start = time.perf_counter()
        done = subprocess.run(
            [*command, *arguments],
            env={**libraries(), **os.environ},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            reason = " ".join(done.stderr.split())[-200:]
            raise InferenceError(f"{name} failed on {' '.join(arguments)}: {reason}")
        results.append({**json.loads(done.stdout), "process_seconds": seconds})
    return results


if __name__ == "__main__":
    main()
