"""Every promised bar takes its value from the right measurement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.bars import HEADER, Bar, all_bars, beside, measured_before
from benchmarks.suite import FULL, QUICK, Plan, Scope
from reformer_export.bench.gemm import GemmRate
from reformer_export.bench.op_cases import ENWIK8, SMALL
from reformer_export.bench.ops import OpResult, OpsReport
from reformer_export.bench.report import BenchReport, GemmRates, Ratio, Result, gemm_notes
from reformer_export.errors import UsageError
from reformer_ops import NativeStatus

GEMM = GemmRates((GemmRate(gflops=100.0, cores=2.0),))


def bench_report(plan: Plan) -> BenchReport:
    """A report where every run did 50 GFLOP in a second, and every other contender took three."""
    ok = {"status": "ok", "flops": 50 * 10**9, "seconds": (1.0,), "peak_rss": 10**9}
    return BenchReport(
        artifact="",
        model={"architecture": "Model"},
        machine={},
        threads=2,
        gemm=GEMM,
        results=tuple(Result("ours", length, **ok) for length in plan.lengths),  # type: ignore[arg-type]
        ratios=tuple(Ratio(who, n, (3.0,)) for n in plan.lengths for who in plan.against),
    )


def ops_report(scope: Scope) -> OpsReport:
    """A report where our operators are always five times as fast."""
    cases = [("lsh", "hf", SMALL, length) for length in scope.hf_lengths]
    cases += [
        (what, "gemm", layer, scope.kernel_length)
        for what in ("sorted_chunk_attention", "chunk_attention")
        for layer in (SMALL, ENWIK8)
    ]
    cases += [
        ("lsh", "sdpa", ly, length) for ly in (SMALL, ENWIK8) for length in scope.sdpa_lengths
    ]
    results = [
        OpResult(what, against, layer.name, length, 1, (1.0,), (5.0,), (5.0,))
        for what, against, layer, length in cases
    ]
    return OpsReport({}, 2, NativeStatus("torch"), GEMM, tuple(results))


def bars_of(scope: Scope) -> list[Bar]:
    return all_bars({plan.name: bench_report(plan) for plan in scope.plans}, ops_report(scope))


def test_the_whole_suite_measures_every_promise() -> None:
    bars = bars_of(FULL)
    assert not [bar for bar in bars if bar.measured is None]
    assert len({(bar.what, bar.at) for bar in bars}) == len(bars)


def test_values_come_from_where_they_belong() -> None:
    found = {(bar.what, bar.at): bar for bar in bars_of(FULL)}
    share = found["whole model, of the fp32 GEMM rate", "c&p: 65,536 tokens"]
    assert (share.measured, share.met) == (0.5, False)
    faster = found["whole model against Hugging Face", "enwik8, 4 layers: 16,384 tokens"]
    assert (faster.measured, faster.met) == (3.0, True)
    memory = found["peak memory", "enwik8: 16,384 tokens"]
    assert (memory.measured, memory.at_most, memory.met) == (1.0, True, True)
    flat = found["time per token at 65,536 tokens, divided by the time per token at 4,096", "c&p"]
    assert flat.measured == 4096 / 65536
    sdpa = found["hashing + attention against torch's causal SDPA", f"{ENWIK8.name}: 65,536 tokens"]
    assert (sdpa.measured, sdpa.limit, sdpa.met) == (5.0, 8, False)


def test_what_was_not_measured_says_so_and_is_neither_met_nor_missed() -> None:
    quick = bars_of(QUICK)
    assert any(bar.measured is not None for bar in quick)
    open_bar = next(bar for bar in quick if bar.measured is None)
    assert open_bar.met is None
    assert open_bar.row()[2:] == ("", "not measured", open_bar.row()[4], "")
    assert all(bar.measured is None for bar in all_bars({}, None))


def test_rows_read_well() -> None:
    assert Bar("speed", "here", 2.3, 2.5).row() == (
        "speed",
        "here",
        "",
        "2.50x",
        "at least 2.30x",
        "met",
    )
    slow = Bar("time", "there", 90, 91.2, "{:.0f} s", at_most=True)
    assert slow.row() == ("time", "there", "", "91 s", "at most 90 s", "missed")
    assert len(HEADER) == len(slow.row())
    assert slow.to_json() == {
        "what": "time", "at": "there", "limit": 90, "at_most": True, "before": None,
        "measured": 91.2, "met": False,
    }  # fmt: skip


def test_a_gemm_faster_than_the_roof_is_told_of() -> None:
    slow_torch = GemmRates((GemmRate(100.0, 2.0, onnxruntime=210.0),))
    (note,) = gemm_notes(slow_torch, threads=2)
    assert "100 GFLOP/s" in note
    assert "210" in note
    assert not list(gemm_notes(GemmRates((GemmRate(100.0, 2.0, onnxruntime=105.0),)), threads=2))


def test_values_of_an_earlier_run(tmp_path: Path) -> None:
    found = bars_of(FULL)
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"bars": [bar.to_json() for bar in found]}))
    earlier = measured_before(file)
    assert all(bar.before == bar.measured for bar in beside(found, earlier))
    assert beside(found, {})[0].before is None
    row = beside(found, {(found[0].what, found[0].at): 4.0})[0].row()
    assert row[HEADER.index("before")] == "4.0x"
    file.write_text("[]")
    with pytest.raises(UsageError, match=r"takes the results\.json that `make bench` wrote"):
        measured_before(file)
