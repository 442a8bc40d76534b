"""The results of benchmarks as Python objects, as JSON and as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reformer_export.bench.gemm import GemmRate
from reformer_export.bench.interleaved_timing import median

SCHEMA_VERSION = 1
OK, FAILED, REFUSED = "ok", "failed", "refused"

_NOISY = 0.1


@dataclass(frozen=True)
class Result:
    """One contender at one length.

    Attributes:
        status: "ok", "failed" (an error occurred) or "refused" (it would exceed the memory or the
            time).
        reason: the reason if the status is not "ok".
        seconds: the time of each run after the warm-up.
        peak_rss: the peak memory of its process in bytes, including opening.
        open_rss: the peak memory at the end of opening; the difference is due to the runs.
        flops: the floating-point operations of one run, as `flops.py` counts them.
    """

    contender: str
    length: int
    status: str
    flops: int
    reason: str | None = None
    description: str = ""
    notes: tuple[str, ...] = ()
    open_seconds: float | None = None
    warm_up_seconds: float | None = None
    seconds: tuple[float, ...] = ()
    peak_rss: int | None = None
    open_rss: int | None = None

    @property
    def median_seconds(self) -> float | None:
        """The median time of a run."""
        return median(list(self.seconds))

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second at the median time."""
        seconds = self.median_seconds
        return None if seconds is None else self.length / seconds

    def share(self, gflops: float | None) -> float | None:
        """Its FLOP rate divided by `gflops`, the GEMM roofline."""
        seconds = self.median_seconds
        return None if seconds is None or not gflops else self.flops / seconds / 1e9 / gflops

    def to_json(self, gflops: float | None) -> dict[str, Any]:
        """The result as an object of the report."""
        return {
            "contender": self.contender,
            "length": self.length,
            "status": self.status,
            "reason": self.reason,
            "description": self.description,
            "notes": list(self.notes),
            "open_seconds": self.open_seconds,
            "warm_up_seconds": self.warm_up_seconds,
            "seconds": list(self.seconds),
            "median_seconds": self.median_seconds,
            "tokens_per_second": self.tokens_per_second,
            "peak_rss_bytes": self.peak_rss,
            "open_rss_bytes": self.open_rss,
            "flops": self.flops,
            "share_of_gemm": self.share(gflops),
        }


@dataclass(frozen=True)
class Ratio:
    """The speed-up of the artifact over a contender: one value for each round in which both ran."""

    contender: str
    length: int
    pairs: tuple[float, ...]

    @property
    def speedup(self) -> float | None:
        """The contender's time divided by ours, median of the rounds."""
        return median(list(self.pairs))

    def to_json(self) -> dict[str, Any]:
        """The ratio as an object of the report."""
        return {
            "contender": self.contender,
            "length": self.length,
            "speedup": self.speedup,
            "pairs": list(self.pairs),
        }


@dataclass(frozen=True)
class GemmRates:
    """The GEMM rates measured between the contenders; `reason` says why none or no more exist."""

    rates: tuple[GemmRate, ...] = ()
    reason: str | None = None

    @property
    def best(self) -> float | None:
        """The best rate, used as the roofline, in GFLOP/s."""
        return max((rate.gflops for rate in self.rates), default=None)

    @property
    def onnxruntime(self) -> float | None:
        """The best rate of ONNX Runtime, in GFLOP/s."""
        rates = [rate.onnxruntime for rate in self.rates if rate.onnxruntime is not None]
        return max(rates, default=None)

    @property
    def cores(self) -> float | None:
        """The median of the numbers of available cores."""
        return median([rate.cores for rate in self.rates])

    def to_json(self) -> dict[str, Any]:
        """The rates as an object of the report."""
        gflops = [rate.gflops for rate in self.rates]
        return {
            "best_gflops": self.best,
            "median_gflops": median(gflops),
            "onnxruntime_gflops": self.onnxruntime,
            "gflops": gflops,
            "cores": [rate.cores for rate in self.rates],
            "reason": self.reason,
        }


@dataclass(frozen=True)
class BenchReport:
    """An artifact measured at several lengths."""

    artifact: str
    model: dict[str, Any]
    machine: dict[str, Any]
    threads: int
    gemm: GemmRates
    results: tuple[Result, ...]
    ratios: tuple[Ratio, ...]

    header = ("tokens", "contender", "time", "tokens/s", "peak memory", "of GEMM rate", "speed-up")

    @property
    def title(self) -> str:
        """A title for a table or a plot."""
        return f"{self.model['architecture']}, {self.threads} threads"

    @property
    def failed(self) -> bool:
        """True if a contender failed, or the artifact itself could not be measured."""
        return any(
            result.status == FAILED or (result.contender == "ours" and result.status != OK)
            for result in self.results
        )

    def result(self, contender: str, length: int) -> Result | None:
        """The result of one contender at one length."""
        found = (r for r in self.results if (r.contender, r.length) == (contender, length))
        return next(found, None)

    def speedup(self, contender: str, length: int) -> float | None:
        """The speed-up of the artifact over `contender` at one length."""
        found = (r.speedup for r in self.ratios if (r.contender, r.length) == (contender, length))
        return next(found, None)

    def notes(self) -> Iterator[str]:
        """Notes for the reader of the numbers."""
        yield from gemm_notes(self.gemm, self.threads)
        seen = set()
        for result in self.results:
            for note in result.notes:
                if (result.contender, note) not in seen:
                    seen.add((result.contender, note))
                    yield f"{result.contender}: {note}"

    def to_json(self) -> dict[str, Any]:
        """The report as a document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "artifact": self.artifact,
            "model": self.model,
            "machine": self.machine,
            "threads": self.threads,
            "gemm": self.gemm.to_json(),
            "results": [result.to_json(self.gemm.best) for result in self.results],
            "ratios": [ratio.to_json() for ratio in self.ratios],
            "notes": list(self.notes()),
        }

    def rows(self) -> Iterator[Sequence[str]]:
        """The results as rows under `header`."""
        for result in self.results:
            if result.status != OK:
                yield (f"{result.length:,}", result.contender, result.status, "", "", "", "")
                continue
            yield (
                f"{result.length:,}",
                result.contender,
                seconds_text(result.median_seconds),
                number_text(result.tokens_per_second, "{:,.0f}"),
                number_text(result.peak_rss and result.peak_rss / 1e9, "{:.2f} GB"),
                number_text(result.share(self.gemm.best), "{:.0%}"),
                number_text(self.speedup(result.contender, result.length), "{:.2f}x"),
            )

    def troubles(self) -> Iterator[str]:
        """The contenders that failed or were refused, with reasons."""
        for result in self.results:
            if result.status != OK:
                yield f"{result.contender} at {result.length:,}: {result.status}: {result.reason}"


def gemm_notes(gemm: GemmRates, threads: int) -> Iterator[str]:
    """Notes about the machine that follow from the GEMM rates."""
    if gemm.reason is not None:
        yield f"the GEMM rate could not be measured: {gemm.reason}"
    if gemm.best is not None and (gemm.onnxruntime or 0.0) > (1 + _NOISY) * gemm.best:
        yield (
            f"shares refer to torch's GEMM, which reaches {gemm.best:,.0f} GFLOP/s here; ONNX "
            f"Runtime's GEMM reaches {gemm.onnxruntime:,.0f}, so a share can exceed 1"
        )
    if gemm.cores is not None and gemm.cores <= (1 - _NOISY) * threads:
        yield (
            f"only {gemm.cores:.1f} of {threads} cores were available, because other processes "
            "were running: measure again on a quiet machine"
        )


def number_text(value: float | None, form: str) -> str:
    """A number as text for a table; a dash for None."""
    return "-" if value is None else form.format(value)


def seconds_text(seconds: float | None) -> str:
    """A time as text, in ms or s; a dash for None."""
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
