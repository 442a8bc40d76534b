"""Measures an artifact and compares it with other ways to run its model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import require_tokens
from reformer_export.bench.contenders import AGAINST, FULL, GEMM, OURS, PORTABLE, Request
from reformer_export.bench.flops import full_model_flops, model_flops
from reformer_export.bench.gemm import GemmRate
from reformer_export.bench.interleaved_timing import Turn, take_turns
from reformer_export.bench.process import Contender, ContenderFailure, DoesNotFit
from reformer_export.bench.progress import Progress
from reformer_export.bench.report import FAILED, OK, REFUSED, BenchReport, GemmRates, Ratio, Result
from reformer_export.errors import UsageError
from reformer_export.host import memory
from reformer_export.host.device import CPU, parse_device
from reformer_export.host.machine import describe_machine, usable_cores
from reformer_export.runtimes.registry import check_runtime
from reformer_export.source import ReformerConfig, artifact_config

DEFAULT_LENGTHS = (1024, 4096, 16384)
DEFAULT_REPEAT = 5
DEFAULT_PATIENCE = 120.0

# Seconds. Opening may include reading weights from a slow disk and the first import of torch. It is
# not part of the measured time.
_OPENING = 600.0
_SLACK = 60.0


def bench_artifact(
    artifact: str | Path,
    *,
    lengths: Sequence[int] | None = None,
    threads: int | None = None,
    against: Sequence[str] = (),
    runtime: str = "auto",
    device: str = CPU,
    repeat: int = DEFAULT_REPEAT,
    checkpoint: str | Path | None = None,
    patience: float = DEFAULT_PATIENCE,
    progress: Progress | None = None,
) -> BenchReport:
    """Time an artifact and others, interleaved, each in its own process.

    Args:
        artifact: the folder.
        lengths: tokens in a sequence; if None, those of `DEFAULT_LENGTHS` that the model accepts.
        threads: the number of threads of each contender; if None, one for each usable core.
        against: names of `AGAINST`.
        runtime: the runtime of the artifact, see `open_runner`.
        device: the device of the artifact and the other contenders.
        repeat: the number of runs of each contender after its warm-up.
        checkpoint: the weights for "hf" and "full"; if None, the checkpoint that the artifact was
            exported from.
        patience: seconds. A run expected to take longer is refused. After two runs at a length, a
            contender skips every run with which it would exceed half of this time in total.
        progress: receives progress messages.

    Returns:
        The report. It contains every contender that failed or was refused, with the reason.

    Raises:
        UsageError: the model does not accept a length, a contender is unknown, or `repeat` is
            less than 1.
        ArtifactError: the artifact is damaged.
    """
    opened = Artifact.open(artifact)
    require_tokens(opened.signature, "bench")
    if runtime != "auto":
        check_runtime(opened, runtime)  # one error here instead of a failure of every contender
    bench = _Bench(
        opened, lengths, threads, against, runtime, device, repeat, checkpoint, patience, progress
    )
    return bench.run()


class _Bench:
    """One benchmark: the request, and the results so far."""

    def __init__(
        self,
        artifact: Artifact,
        lengths: Sequence[int] | None,
        threads: int | None,
        against: Sequence[str],
        runtime: str,
        device: str,
        repeat: int,
        checkpoint: str | Path | None,
        patience: float,
        progress: Progress | None,
    ) -> None:
        self.artifact = artifact
        self.config: ReformerConfig = artifact_config(artifact)
        self.lengths = _checked_lengths(lengths, artifact)
        self.threads = threads or usable_cores()
        self.runtime = runtime
        self.device = str(parse_device(device))
        self.contenders = (OURS, *_checked_against(against))
        if repeat < 1:
            raise UsageError(f"--repeat {repeat}: at least one run is needed")
        self.repeat, self.patience = repeat, patience
        self.checkpoint = None if checkpoint is None else str(checkpoint)
        self.say: Progress = progress or (lambda message: None)
        self.rates: list[GemmRate] = []
        self.no_gemm: str | None = None
        self.speed: dict[str, float] = {}  # FLOP/s of each contender at its last measured length
        self.results: list[Result] = []
        self.ratios: list[Ratio] = []

    def run(self) -> BenchReport:
        """Measure every length, the shortest first."""
        with Contender(self._request(GEMM)) as gemm:
            if self.device != CPU:
                self.no_gemm = "it applies to the CPU, and the model runs on another device"
            else:
                try:
                    gemm.open(_OPENING)
                    self._gemm_turn(gemm)()
                except ContenderFailure as error:
                    self.no_gemm = str(error)
            for length in self.lengths:
                self._measure(length, gemm)
        return BenchReport(
            artifact=str(self.artifact.path),
            model=self._model(),
            machine=describe_machine(),
            threads=self.threads,
            gemm=GemmRates(tuple(self.rates), self.no_gemm),
            results=tuple(sorted(self.results, key=self._place)),
            ratios=tuple(self.ratios),
        )

    def _measure(self, length: int, gemm: Contender) -> None:
        ready: dict[str, Contender] = {}
        with ExitStack() as stack:
            for name in self.contenders:
                ours = ready.get(OURS)
                if name == PORTABLE and ours is not None and not ours.native:
                    self._refuse(name, length, "without native operators it is the same as ours")
                elif (reason := self._hopeless(name, length)) is not None:
                    self._refuse(name, length, reason)
                else:
                    self._prepare(name, length, stack, ready)
            turns = {} if self.no_gemm else {GEMM: self._gemm_turn(gemm)}
            turns |= {name: self._turn(contender) for name, contender in ready.items()}
            done = take_turns(
                turns,
                repeat=self.repeat,
                budget=self.patience / 2,
                progress=lambda message: self.say(f"{length:,} tokens, {message}"),
            )
            if GEMM in done.failures:
                self.no_gemm = str(done.failures[GEMM])
            for name, contender in ready.items():
                self._conclude(contender, tuple(done.of(name)), done.failures.get(name))
                pairs = done.ratios(name, OURS)
                if name != OURS and pairs:
                    self.ratios.append(Ratio(name, length, tuple(pairs)))

    def _prepare(
        self, name: str, length: int, stack: ExitStack, ready: dict[str, Contender]
    ) -> None:
        """Open a contender and warm it up, or record why it failed."""
        self.say(f"{length:,} tokens: opening {name}")
        # The other contenders will need their peak memory again when they run.
        reserved = sum(max(0, c.peak_rss() - c.idle_rss()) for c in ready.values())
        allowance = max(0, memory.available() - reserved)
        contender = stack.enter_context(Contender(self._request(name, length, allowance)))
        try:
            contender.open(_OPENING)
            self.say(f"{length:,} tokens: warming up {name}")
            contender.warm_up(self._timeout)
        except ContenderFailure as error:
            self._conclude(contender, (), error)
            contender.close()
        else:
            ready[name] = contender

    def _conclude(
        self, contender: Contender, seconds: tuple[float, ...], error: Exception | None
    ) -> None:
        """Record the result of a contender."""
        name, length = contender.request.contender, contender.request.length
        result = Result(
            contender=name,
            length=length,
            status=OK if error is None else REFUSED if isinstance(error, DoesNotFit) else FAILED,
            flops=self._flops(name, length),
            reason=None if error is None else str(error),
            description=contender.description,
            notes=contender.notes,
            open_seconds=contender.open_seconds,
            warm_up_seconds=contender.warm_up_seconds,
            seconds=seconds,
            peak_rss=contender.peak_rss() or None,
            open_rss=contender.open_rss,
        )
        self.results.append(result)
        if result.median_seconds is not None:
            self.speed[name] = result.flops / result.median_seconds

    def _place(self, result: Result) -> tuple[int, int]:
        return result.length, self.contenders.index(result.contender)

    @property
    def _timeout(self) -> float:
        """The maximum seconds of one run: well above `patience`, as expected times are guesses."""
        return _SLACK + 5 * self.patience

    def _turn(self, contender: Contender) -> Turn:
        return lambda: contender.run(self._timeout)["seconds"]

    def _gemm_turn(self, contender: Contender) -> Turn:
        def turn() -> float:
            answer = contender.run(self._timeout)
            self.rates.append(GemmRate(answer["gflops"], answer["cores"], answer["onnxruntime"]))
            return answer["seconds"]

        return turn

    def _hopeless(self, name: str, length: int) -> str | None:
        """The reason to refuse a contender if it would take too long, else None.

        The expected time is computed from its rate at the last measured length, and without one
        from the GEMM rate.
        """
        speed = self.speed.get(name) or (GemmRates(tuple(self.rates)).best or 0.0) * 1e9
        if not speed:
            return None
        expected = self._flops(name, length) / speed
        if expected <= self.patience:
            return None
        return f"a run would take about {expected:.0f} s, and --patience is {self.patience:.0f} s"

    def _flops(self, name: str, length: int) -> int:
        count = full_model_flops if name == FULL else model_flops
        return count(self.config, self.artifact.manifest.task, length).total

    def _request(self, name: str, length: int = 0, allowance: int | None = None) -> Request:
        return Request(
            contender=name,
            threads=self.threads,
            artifact=str(self.artifact.path),
            runtime=self.runtime,
            device=self.device,
            checkpoint=self.checkpoint,
            length=length,
            memory=allowance,
        )

    def _refuse(self, name: str, length: int, reason: str) -> None:
        flops = self._flops(name, length)
        self.results.append(Result(name, length, REFUSED, flops, reason))

    def _model(self) -> dict[str, Any]:
        manifest, config = self.artifact.manifest, self.config
        return {
            "architecture": manifest.architecture,
            "task": manifest.task,
            "dtype": manifest.dtype,
            "attn_layers": list(config.attn_layers),
            "hidden_size": config.hidden_size,
            "num_attention_heads": config.num_attention_heads,
            "attention_head_size": config.attention_head_size,
            "num_hashes": config.num_hashes,
        }


def _checked_lengths(lengths: Sequence[int] | None, artifact: Artifact) -> list[int]:
    signature = artifact.signature
    if lengths is None:
        fitting = [n for n in DEFAULT_LENGTHS if n <= signature.max_length]
        return fitting or [signature.max_length]
    for length in lengths:
        if not signature.min_length <= length <= signature.max_length:
            raise UsageError(
                f"--lengths {length}: this model takes {signature.min_length} to "
                f"{signature.max_length} tokens"
            )
    return sorted(set(lengths))


def _checked_against(against: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(against))
    for name in names:
        if name not in AGAINST:
            raise UsageError(f"--against {name}: choose from {', '.join(AGAINST)}")
    return names
