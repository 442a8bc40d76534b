"""Measures the operators alone, in this process: against Hugging Face, GEMM and torch's SDPA."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from reformer_export.bench.gemm import Gemm, GemmRate
from reformer_export.bench.interleaved_timing import Turn, median, take_turns, timed
from reformer_export.bench.op_cases import ENWIK8, SMALL, Layer, Operands, Work
from reformer_export.bench.progress import Progress
from reformer_export.bench.report import (
    FAILED,
    OK,
    REFUSED,
    SCHEMA_VERSION,
    GemmRates,
    gemm_notes,
    number_text,
    seconds_text,
)
from reformer_export.host import memory
from reformer_export.host.machine import describe_machine, usable_cores
from reformer_export.host.optional import require
from reformer_ops import NativeStatus, native_status

HF_LENGTHS = (4096, 16384)
KERNEL_LENGTH = 16384
SDPA_LENGTHS = (2048, 4096, 8192, 16384, 32768, 65536)

# Seconds that each contender may take in one comparison.
_BUDGET = 60.0


@dataclass(frozen=True)
class OpResult:
    """One of our operators compared with an alternative at one size.

    Attributes:
        what: "lsh" (lsh_bucket and sorted_chunk_attention), or an operator's name.
        against: "hf", "sdpa" or "gemm".
        layer: the sizes, in words.
        flops: the floating-point operations of our operator.
        seconds, other_seconds: of every run, ours and the alternative's; for "gemm", other_seconds
            is empty.
        ratios: the alternative's seconds divided by ours in the same round; for "gemm", our rate
            divided by the best GEMM rate.
        status, reason: "ok", "failed" or "refused", and why.
    """

    what: str
    against: str
    layer: str
    length: int
    flops: int
    seconds: tuple[float, ...] = ()
    other_seconds: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    status: str = OK
    reason: str | None = None

    @property
    def ratio(self) -> float | None:
        """The median of the ratios."""
        return median(list(self.ratios))

    @property
    def gflops(self) -> float | None:
        """Our rate in GFLOP/s, from the median time."""
        seconds = median(list(self.seconds))
        return None if seconds is None else self.flops / seconds / 1e9

    def to_json(self) -> dict[str, Any]:
        """The result as an object of the report."""
        return {
            **{name: getattr(self, name) for name in ("what", "against", "layer", "length")},
            "flops": self.flops,
            "seconds": list(self.seconds),
            "other_seconds": list(self.other_seconds),
            "ratios": list(self.ratios),
            "ratio": self.ratio,
            "gflops": self.gflops,
            "status": self.status,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class OpsReport:
    """All comparisons of one run."""

    machine: Mapping[str, Any]
    threads: int
    native: NativeStatus
    gemm: GemmRates
    results: tuple[OpResult, ...]

    header = ("operator", "layer", "tokens", "time", "GFLOP/s", "against", "its time", "ratio")

    @property
    def title(self) -> str:
        """A title for a table or a plot."""
        return f"{self.native} in torch, {self.threads} threads"

    @property
    def failed(self) -> bool:
        """True if a comparison failed."""
        return any(result.status == FAILED for result in self.results)

    def notes(self) -> Iterator[str]:
        """Notes that explain the numbers to a reader."""
        if not self.native.available:
            yield f"{self.native}, not native ones: {self.native.reason}"
        yield from gemm_notes(self.gemm, self.threads)

    def troubles(self) -> Iterator[str]:
        """The comparisons that were not measured, with reasons."""
        for result in self.results:
            if result.status != OK:
                yield (
                    f"{result.what} against {result.against}, {result.layer}, "
                    f"{result.length:,} tokens: {result.status}: {result.reason}"
                )

    def to_json(self) -> dict[str, Any]:
        """The report as a document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "machine": dict(self.machine),
            "threads": self.threads,
            "operators": str(self.native),
            "gemm": self.gemm.to_json(),
            "results": [result.to_json() for result in self.results],
            "notes": list(self.notes()),
        }

    def rows(self) -> Iterator[Sequence[str]]:
        """The results as rows under `header`."""
        for result in self.results:
            yield (
                result.what,
                result.layer,
                f"{result.length:,}",
                seconds_text(median(list(result.seconds))),
                number_text(result.gflops, "{:,.0f}"),
                result.against,
                seconds_text(median(list(result.other_seconds))),
                number_text(result.ratio, "{:.2f}x") if result.status == OK else result.status,
            )


def bench_ops(
    *,
    threads: int | None = None,
    repeat: int = 5,
    hf_lengths: Sequence[int] = HF_LENGTHS,
    kernel_length: int = KERNEL_LENGTH,
    sdpa_lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> OpsReport:
    """Time our torch operators, interleaved with the operators that they replace.

    Args:
        threads: the number of torch's threads; all usable cores if None.
        repeat: the number of runs of each operator after a warm-up.
        hf_lengths: tokens, for the comparison with Hugging Face's LSHSelfAttention without its
            linear layers.
        kernel_length: tokens, for the rates of the attention kernels.
        sdpa_lengths: tokens, for the comparison with torch's causal scaled_dot_product_attention;
            `SDPA_LENGTHS` if None.
        progress: receives progress messages.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    say = progress or (lambda message: None)
    with _settings(threads or usable_cores()) as used_threads:
        bench = _OpsBench(repeat, say)
        for length in hf_lengths:
            bench.compare("lsh", "hf", SMALL, length)
        for layer in (SMALL, ENWIK8):
            for what in ("sorted_chunk_attention", "chunk_attention"):
                bench.compare(what, "gemm", layer, kernel_length)
        for layer in (SMALL, ENWIK8):
            for length in sdpa_lengths or SDPA_LENGTHS:
                bench.compare("lsh", "sdpa", layer, length)
        return OpsReport(
            describe_machine(),
            used_threads,
            native_status("torch"),
            GemmRates(tuple(bench.rates)),
            tuple(map(bench.finished, bench.results)),
        )


class _OpsBench:
    def __init__(self, repeat: int, say: Progress) -> None:
        self.repeat, self.say = repeat, say
        self.gemm = Gemm()
        self.rates: list[GemmRate] = []
        self.results: list[OpResult] = []

    def compare(self, what: str, against: str, layer: Layer, length: int) -> None:
        """Time our operator, the alternative and GEMM in every round."""
        flops = layer.lsh_flops(length) if what == "lsh" else layer.attention_flops(length)
        if what == "chunk_attention":
            flops //= layer.rounds
        self.say(f"{what} against {against}, {layer.name}, {length:,} tokens")
        turns: dict[str, Turn] = {"gemm": self._gemm_turn}
        try:
            for name, work in _works(what, against, layer, length).items():
                work()  # warms up
                turns[name] = partial(timed, work)
        except Exception as error:  # the other comparisons continue in any case
            self.results.append(_unmeasured(what, against, layer, length, flops, error))
            return
        done = take_turns(turns, repeat=self.repeat, budget=_BUDGET)
        if done.failures:
            failure = next(iter(done.failures.values()))
            self.results.append(_unmeasured(what, against, layer, length, flops, failure))
            return
        self.results.append(
            OpResult(
                what,
                against,
                layer.name,
                length,
                flops,
                tuple(done.of("ours")),
                tuple(done.of(against)) if against != "gemm" else (),
                tuple(done.ratios(against, "ours")) if against != "gemm" else (),
            )
        )

    def finished(self, result: OpResult) -> OpResult:
        """Add the ratios to the best GEMM rate, which is known only at the end."""
        if result.against != "gemm" or result.status != OK:
            return result
        best = max(rate.gflops for rate in self.rates) * 1e9
        ratios = tuple(result.flops / seconds / best for seconds in result.seconds)
        return OpResult(**{**vars(result), "ratios": ratios})

    def _gemm_turn(self) -> float:
        start = time.perf_counter()
        self.rates.append(self.gemm.measure())
        return time.perf_counter() - start


def _works(what: str, against: str, layer: Layer, length: int) -> dict[str, Work]:
    operands = Operands(layer, length)
    works: dict[str, Work] = {}
    if what == "lsh":
        works["ours"] = operands.lsh
    elif what == "chunk_attention":
        works["ours"] = operands.local
    else:
        buckets = operands.buckets()
        works["ours"] = lambda: operands.attention(buckets)
    if against == "hf":
        works["hf"] = operands.huggingface()
    elif against == "sdpa":
        works["sdpa"] = operands.sdpa
    return works


def _unmeasured(
    what: str, against: str, layer: Layer, length: int, flops: int, error: Exception
) -> OpResult:
    status = REFUSED if memory.ran_out(error) else FAILED
    reason = " ".join(str(error).split()) or type(error).__name__
    return OpResult(what, against, layer.name, length, flops, status=status, reason=reason)


@contextmanager
def _settings(threads: int) -> Iterator[int]:
    """Disable gradients, set the number of threads and limit memory to what is available.

    The former settings are restored afterwards.
    """
    torch = require("torch", purpose="measuring operators")
    former = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]), memory.limited_growth():
            yield threads
    finally:
        torch.set_num_threads(former)
