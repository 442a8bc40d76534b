"""The project's promises about speed and memory, compared with measured values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reformer_export.bench.op_cases import ENWIK8, SMALL, Layer
from reformer_export.bench.ops import OpsReport
from reformer_export.bench.report import OK, BenchReport, Result
from reformer_export.errors import UsageError

CP, CP_LONGEST, CP_MILLION = "c&p", "c&p at its longest", "c&p, a million tokens"
ENWIK8_CUT, ENWIK8_WHOLE = "enwik8, 4 layers", "enwik8"
LONGEST, MILLION = 524288, 1048576

Reports = Mapping[str, BenchReport]

HEADER = ("what", "at", "before", "measured", "bar", "")


@dataclass(frozen=True)
class Bar:
    """One promise: a limit that a measured value must reach, or must not exceed.

    `before` is the value of an earlier run.
    """

    what: str
    at: str
    limit: float
    measured: float | None
    form: str = "{:.2f}x"
    at_most: bool = False
    before: float | None = None

    @property
    def met(self) -> bool | None:
        """True if the promise is kept; None if nothing was measured."""
        if self.measured is None:
            return None
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit

    def row(self) -> Sequence[str]:
        """The promise as a row under `HEADER`."""
        bound = "at most" if self.at_most else "at least"
        return (
            self.what,
            self.at,
            "" if self.before is None else self.form.format(self.before),
            "not measured" if self.measured is None else self.form.format(self.measured),
            f"{bound} {self.form.format(self.limit)}",
            {True: "met", False: "missed", None: ""}[self.met],
        )

    def to_json(self) -> dict[str, Any]:
        """The promise as an object of results.json."""
        return {
            "what": self.what,
            "at": self.at,
            "limit": self.limit,
            "at_most": self.at_most,
            "before": self.before,
            "measured": self.measured,
            "met": self.met,
        }


def all_bars(models: Reports, ops: OpsReport | None) -> list[Bar]:
    """Every promise with its measured value."""
    return [*_op_bars(ops), *_model_bars(models), *_sdpa_bars(ops)]


Earlier = Mapping[tuple[str, str], float]
"""Values of an earlier run, by what and at."""


def measured_before(file: Path) -> Earlier:
    """The values in results.json of an earlier run.

    Raises:
        UsageError: it cannot be read, or is not from `make bench`.
    """
    try:
        found = json.loads(file.read_bytes())["bars"]
        return {(b["what"], b["at"]): b["measured"] for b in found if b["measured"] is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--before takes the results.json that `make bench` wrote; {file} is none ({error!r})"
        ) from error


def beside(found: Sequence[Bar], earlier: Earlier) -> list[Bar]:
    """The promises with the values of an earlier run."""
    return [replace(bar, before=earlier.get((bar.what, bar.at))) for bar in found]


def _op_bars(ops: OpsReport | None) -> Iterator[Bar]:
    what = (
        "lsh_bucket + sorted_chunk_attention against Hugging Face's layer without its linear layers"
    )
    for length in (4096, 16384):
        value = _op(ops, "lsh", "hf", SMALL, length)
        yield Bar(what, _at(SMALL.name, length), 15, value, "{:.1f}x")
    for operator in ("sorted_chunk_attention", "chunk_attention"):
        for layer in (SMALL, ENWIK8):
            value = _op(ops, operator, "gemm", layer, None)
            yield Bar(f"{operator} alone, of the fp32 GEMM rate", layer.name, 0.65, value, "{:.2f}")


def _sdpa_bars(ops: OpsReport | None) -> Iterator[Bar]:
    what = "hashing + attention against torch's causal SDPA"
    for layer, length, limit in (
        (ENWIK8, 8192, 1),
        (ENWIK8, 16384, 2),
        (ENWIK8, 32768, 1),
        (ENWIK8, 65536, 8),
        *((SMALL, length, 1) for length in (2048, 4096, 8192, 16384, 32768, 65536)),
    ):
        value = _op(ops, "lsh", "sdpa", layer, length)
        yield Bar(what, _at(layer.name, length), limit, value, "{:.1f}x")


def _model_bars(models: Reports) -> Iterator[Bar]:
    for model, lengths, limit in ((ENWIK8_CUT, (4096, 16384), 0.90), (CP, (16384, 65536), 0.75)):
        for length in lengths:
            value = _value(models, model, length, lambda r, gflops: r.share(gflops))
            yield Bar(
                "whole model, of the fp32 GEMM rate", _at(model, length), limit, value, "{:.2f}"
            )
    for model, limits in (
        (ENWIK8_CUT, {4096: 2.3, 16384: 2.8}),
        (CP, {16384: 2.3, 65536: 3.1}),
    ):
        for length, limit in limits.items():
            report = models.get(model)
            value = None if report is None else report.speedup("hf", length)
            yield Bar("whole model against Hugging Face", _at(model, length), limit, value)
    yield Bar(
        "peak memory",
        _at(ENWIK8_WHOLE, 16384),
        1.6,
        _value(models, ENWIK8_WHOLE, 16384, _gigabytes),
        "{:.2f} GB",
        at_most=True,
    )
    portable = "function bodies and standard operators, compared with our kernels"
    for model, limit in ((CP, 1.75), (ENWIK8_CUT, 1.45)):
        report = models.get(model)
        value = None if report is None else report.speedup("portable", 4096)
        yield Bar(portable, _at(model, 4096), limit, value, at_most=True)
    long, short = (_value(models, CP, length, _per_token) for length in (65536, 4096))
    yield Bar(
        "time per token at 65,536 tokens, divided by the time per token at 4,096",
        CP,
        1.25,
        None if long is None or short is None else long / short,
        at_most=True,
    )
    for model, length, most_seconds, most_gigabytes in (
        (CP_LONGEST, LONGEST, 20, 3),
        (CP_MILLION, MILLION, 40, 5),
    ):
        seconds = _value(models, model, length, lambda result, _: result.median_seconds)
        yield Bar("time", _at(model, length), most_seconds, seconds, "{:.1f} s", at_most=True)
        peak = _value(models, model, length, _gigabytes)
        yield Bar(
            "peak memory", _at(model, length), most_gigabytes, peak, "{:.2f} GB", at_most=True
        )


def _at(model: str, length: int) -> str:
    return f"{model}: {length:,} tokens"


def _op(
    ops: OpsReport | None, what: str, against: str, layer: Layer, length: int | None
) -> float | None:
    wanted = (what, against, layer.name)
    for result in ops.results if ops is not None else ():
        same = (result.what, result.against, result.layer) == wanted
        if same and length in (None, result.length):
            return result.ratio
    return None


def _value(
    models: Reports, model: str, length: int, of: Callable[[Result, float | None], float | None]
) -> float | None:
    report = models.get(model)
    result = None if report is None else report.result("ours", length)
    if report is None or result is None or result.status != OK:
        return None
    return of(result, report.gemm.best)


def _gigabytes(result: Result, gflops: float | None) -> float | None:
    return None if result.peak_rss is None else result.peak_rss / 1e9


def _per_token(result: Result, gflops: float | None) -> float | None:
    rate = result.tokens_per_second
    return None if rate is None else 1 / rate
