"""`make bench`: creates checkpoints of the published shapes, exports them and measures them."""

from __future__ import annotations

import dataclasses
import multiprocessing
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import bars
from reformer_export.bench.files import prepare_folder, write_results
from reformer_export.bench.models import bench_artifact
from reformer_export.bench.ops import HF_LENGTHS, KERNEL_LENGTH, SDPA_LENGTHS, OpsReport, bench_ops
from reformer_export.bench.plots import plot_models, plot_ops
from reformer_export.bench.progress import Progress, prefixed
from reformer_export.bench.report import SCHEMA_VERSION, BenchReport
from reformer_export.cli.tables import markdown
from reformer_export.errors import ReformerError, UsageError
from reformer_export.host.machine import describe_machine, usable_cores

EXAMPLES = Path(__file__).parents[1] / "examples"
MAKE_CHECKPOINT = EXAMPLES / "make_checkpoint.py"

# The fields of the published enwik8 config that differ from the example checkpoint.
_ENWIK8: dict[str, Any] = {
    "attn_layers": ("local", "local", "lsh", "local") * 3,
    "hidden_size": 1024,
    "num_attention_heads": 8,
    "attention_head_size": 128,
    "feed_forward_size": 4096,
    "local_attn_chunk_length": 128,
    "lsh_attn_chunk_length": 256,
    "num_buckets": (512,),
    "num_hashes": 4,
    "axial_pos_shape": (128, 512),
    "axial_pos_embds_dim": (256, 768),
    "max_position_embeddings": 65536,
    "vocab_size": 258,
}
SHAPES: dict[str, dict[str, Any]] = {
    "cp": {},
    "enwik8-cut": {**_ENWIK8, "attn_layers": _ENWIK8["attn_layers"][:4]},
    "enwik8": _ENWIK8,
    "cp-million": {"axial_pos_shape": (1024, 1024), "max_position_embeddings": bars.MILLION},
}


@dataclass(frozen=True)
class Plan:
    """The measurements of one artifact: name, shape, lengths and contenders.

    `logits` is the option of the export: "all", or "last" for long sequences.
    """

    name: str
    shape: str
    lengths: tuple[int, ...]
    against: tuple[str, ...] = ()
    repeat: int = 3
    logits: str = "all"


@dataclass(frozen=True)
class Scope:
    """What is measured: the artifacts, and the lengths for the operators."""

    plans: tuple[Plan, ...]
    hf_lengths: tuple[int, ...] = HF_LENGTHS
    kernel_length: int = KERNEL_LENGTH
    sdpa_lengths: tuple[int, ...] = SDPA_LENGTHS


_ALL = ("portable", "hf", "full")
FULL = Scope(
    (
        Plan(bars.CP, "cp", (1024, 4096, 16384, 65536), _ALL),
        Plan(bars.ENWIK8_CUT, "enwik8-cut", (1024, 4096, 16384), _ALL),
        Plan(bars.CP_LONGEST, "cp", (bars.LONGEST,), repeat=1, logits="last"),
        Plan(bars.CP_MILLION, "cp-million", (bars.MILLION,), repeat=1, logits="last"),
        Plan(bars.ENWIK8_WHOLE, "enwik8", (16384,), repeat=1),
    )
)
QUICK = Scope(
    (
        Plan(bars.CP, "cp", (4096, 16384), ("hf",)),
        Plan(bars.ENWIK8_CUT, "enwik8-cut", (4096,), ("hf",), repeat=2),
    ),
    sdpa_lengths=(2048, 8192),
)

_PATIENCE = 120.0


@dataclass(frozen=True)
class SuiteReport:
    """All results of `make bench`."""

    machine: Mapping[str, Any]
    seconds: float
    models: Mapping[str, BenchReport]
    ops: OpsReport | None
    failures: tuple[str, ...]
    bars: tuple[bars.Bar, ...]

    @property
    def parts(self) -> dict[str, BenchReport | OpsReport]:
        """The reports of all parts, by name."""
        return {**self.models, **({} if self.ops is None else {"operators": self.ops})}

    @property
    def failed(self) -> bool:
        """True if a measurement failed; a missed bar is not a failure."""
        return bool(self.failures) or any(part.failed for part in self.parts.values())

    def notes(self) -> list[str]:
        """All failures, and notes that help to read the numbers."""
        found = list(self.failures)
        for name, part in self.parts.items():
            found += [f"{name}: {note}" for note in (*part.troubles(), *part.notes())]
        return found

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "machine": dict(self.machine),
            "seconds": self.seconds,
            "models": {name: report.to_json() for name, report in self.models.items()},
            "ops": None if self.ops is None else self.ops.to_json(),
            "bars": [bar.to_json() for bar in self.bars],
            "notes": self.notes(),
        }


def run_suite(
    folder: Path,
    *,
    scope: Scope = FULL,
    threads: int | None = None,
    before: Path | None = None,
    progress: Progress | None = None,
) -> SuiteReport:
    """Measure everything that the project promises; write results and plots into `folder`.

    The files are results.json, table.md and the plots. Checkpoints and artifacts are created in
    `folder`, again in each run. If a part fails, the report says so and the other parts are still
    measured.

    Args:
        folder: created if it is missing.
        scope: everything, or the part that takes minutes (`QUICK`).
        threads: the number for every contender; by default all usable cores.
        before: results.json of an earlier run; its values stand beside the new ones.
        progress: receives progress messages.

    Raises:
        UsageError: this is not a checkout, so the program that creates checkpoints is missing; or
            `before` is not the results.json of this command.
        MissingDependencyError: matplotlib or torch is not installed.
    """
    say = progress or (lambda message: None)
    threads = threads or usable_cores()
    earlier = {} if before is None else bars.measured_before(before)
    prepare_folder(folder)
    start = time.perf_counter()
    models: dict[str, BenchReport] = {}
    failures: list[str] = []
    artifacts: dict[tuple[str, str], Path] = {}
    for plan in scope.plans:
        made = (plan.shape, plan.logits)
        try:
            if made not in artifacts:
                name = plan.shape if plan.logits == "all" else f"{plan.shape}-{plan.logits}"
                say(f"making the artifact {name}")
                artifacts[made] = make_artifact(
                    folder / name, SHAPES[plan.shape], logits=plan.logits
                )
            models[plan.name] = bench_artifact(
                artifacts[made],
                lengths=plan.lengths,
                threads=threads,
                against=plan.against,
                repeat=plan.repeat,
                patience=_PATIENCE,
                progress=prefixed(say, plan.name),
            )
        except ReformerError as error:
            failures.append(f"{plan.name}: {error}")
    say("operators")
    ops: OpsReport | None = None
    try:
        ops = _ops_in_own_process(scope, threads)
    except (ReformerError, BrokenProcessPool) as error:
        failures.append(f"operators: {error}")
    report = SuiteReport(
        machine=describe_machine(),
        seconds=time.perf_counter() - start,
        models=models,
        ops=ops,
        failures=tuple(failures),
        bars=tuple(bars.beside(bars.all_bars(models, ops), earlier)),
    )
    _write(folder, report)
    return report


def make_artifact(folder: Path, changes: Mapping[str, Any], *, logits: str = "all") -> Path:
    """Create a checkpoint with random weights and export it as a user would; returns the artifact.

    Args:
        folder: receives both; its former content is deleted.
        changes: fields of the config that differ from those of the example.
        logits: the option of the export.

    Raises:
        UsageError: the example is missing.
        ReformerError: the export failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint, artifact = folder / "checkpoint", folder / "artifact"
    make_checkpoint(checkpoint, changes)
    command = [sys.executable, "-m", "reformer_export", "to-onnx", "--no-verify", "--json"]
    # Weights in a separate file are memory-mapped; inside the graph they are parsed and copied.
    command += ["--external-data", "--logits", logits]
    done = subprocess.run(
        [*command, "-m", str(checkpoint), str(artifact)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing said"]
        raise ReformerError(f"the export ended with code {done.returncode}: {said[-1]}")
    return artifact


def make_checkpoint(folder: Path, changes: Mapping[str, Any]) -> None:
    """Write a checkpoint with random weights; `changes` are as in `make_artifact`.

    Raises:
        UsageError: the example is missing.
    """
    if not MAKE_CHECKPOINT.is_file():
        raise UsageError(f"{MAKE_CHECKPOINT} is missing: run the suite in a checkout")
    example = runpy.run_path(str(MAKE_CHECKPOINT))
    example["make_checkpoint"](folder, dataclasses.replace(example["CONFIG"], **changes))


def _ops_in_own_process(scope: Scope, threads: int) -> OpsReport:
    """Measure in a separate process, so that a crash does not stop the other measurements."""
    measure = partial(
        bench_ops,
        threads=threads,
        repeat=3,
        hf_lengths=scope.hf_lengths,
        kernel_length=scope.kernel_length,
        sdpa_lengths=scope.sdpa_lengths,
        progress=_tell,
    )
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure).result()


def _tell(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def _write(folder: Path, report: SuiteReport) -> None:
    write_results(folder, report.to_json())
    rows = [bar.row() for bar in report.bars]
    (folder / "table.md").write_text(markdown(bars.HEADER, rows), encoding="utf-8")
    for names, file, title in (
        ((bars.CP, bars.CP_LONGEST), "cp.png", "crime-and-punishment config"),
        ((bars.ENWIK8_CUT,), "enwik8.png", "enwik8 config, 4 layers"),
    ):
        found = [r for name in names if name in report.models for r in report.models[name].results]
        plot_models(found, folder / file, title)
    if report.ops is not None:
        plot_ops(report.ops.results, folder / "ops.png", "hashing and attention of one layer")
