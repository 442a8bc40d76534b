"""A small benchmark end to end: it reports every measurement, and what failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reformer_export.artifact import Artifact
from reformer_export.bench import bench_artifact
from reformer_export.bench.flops import full_model_flops, model_flops
from reformer_export.bench.report import BenchReport
from reformer_export.errors import UsageError
from reformer_export.source import artifact_config

FIELDS = {
    "contender", "length", "status", "reason", "description", "notes", "open_seconds",
    "warm_up_seconds", "seconds", "median_seconds", "tokens_per_second", "peak_rss_bytes",
    "open_rss_bytes", "flops", "share_of_gemm",
}  # fmt: skip


@pytest.fixture(scope="module")
def report(artifact: Artifact) -> BenchReport:
    return bench_artifact(
        artifact.path, lengths=(48,), threads=1, against=("hf", "full", "portable"), repeat=2
    )


@pytest.mark.slow
def test_everybody_is_measured(report: BenchReport) -> None:
    measured = {result.contender for result in report.results if result.status == "ok"}
    assert measured >= {"ours", "hf", "full"}
    assert not report.failed
    assert {ratio.contender for ratio in report.ratios} == measured - {"ours"}


@pytest.mark.slow
def test_the_document_is_complete_and_json(report: BenchReport) -> None:
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["threads"] == 1
    assert document["gemm"]["best_gflops"] > 0
    assert document["gemm"]["onnxruntime_gflops"] > 0
    assert len(document["gemm"]["gflops"]) == 1 + 2  # a warm-up and two rounds
    assert document["machine"]["cores"] >= 1
    assert document["model"]["task"] == "text-generation"
    assert len(document["results"]) == 4
    for result in document["results"]:
        assert result.keys() == FIELDS
        if result["status"] != "ok":
            assert result["reason"]
            continue
        assert len(result["seconds"]) == 2
        assert result["tokens_per_second"] == result["length"] / result["median_seconds"]
        assert result["peak_rss_bytes"] >= result["open_rss_bytes"] > 10e6
        rate = result["flops"] / result["median_seconds"] / 1e9
        assert result["share_of_gemm"] == pytest.approx(rate / document["gemm"]["best_gflops"])
    for ratio in document["ratios"]:
        assert len(ratio["pairs"]) == 2


@pytest.mark.slow
def test_arithmetic_is_that_of_the_model_measured(report: BenchReport, artifact: Artifact) -> None:
    config = artifact_config(artifact)
    for name, count in (("ours", model_flops), ("hf", model_flops), ("full", full_model_flops)):
        result = report.result(name, 48)
        assert result is not None
        assert result.flops == count(config, "text-generation", 48).total


@pytest.mark.slow
def test_rows_show_what_the_header_says(report: BenchReport) -> None:
    rows = list(report.rows())
    assert [row[:2] for row in rows[:2]] == [("48", "ours"), ("48", "hf")]
    assert {len(row) for row in rows} == {len(report.header)}


@pytest.mark.slow
def test_a_contender_that_breaks_is_reported(path: Path, tmp_path: Path) -> None:
    reported: list[str] = []
    report = bench_artifact(
        path,
        lengths=(24,),
        threads=1,
        against=("hf",),
        repeat=1,
        checkpoint=tmp_path / "gone",
        progress=reported.append,
    )
    ours, theirs = report.results
    assert (ours.status, theirs.status) == ("ok", "failed")
    assert "gone" in (theirs.reason or "")
    assert report.failed
    assert list(report.troubles()) == [f"hf at 24: failed: {theirs.reason}"]
    assert not report.ratios
    assert "24 tokens: opening hf" in reported


def test_what_would_take_too_long_is_not_begun(path: Path) -> None:
    report = bench_artifact(path, lengths=(24,), threads=1, against=("full",), patience=1e-9)
    assert [result.status for result in report.results] == ["refused"] * 2
    assert "--patience" in (report.results[0].reason or "")
    assert report.failed, "there are no numbers of ours"


def test_a_request_that_cannot_be_met_is_refused_at_once(path: Path) -> None:
    with pytest.raises(UsageError, match="--lengths 4097: this model takes 1 to"):
        bench_artifact(path, lengths=(4097,))
    with pytest.raises(UsageError, match="--against trax: choose from portable, hf, full"):
        bench_artifact(path, against=("trax",))
    with pytest.raises(UsageError, match="--repeat 0"):
        bench_artifact(path, repeat=0)
