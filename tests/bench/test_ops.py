"""A small benchmark of the operators: it compares equal work and reports every failure."""

from __future__ import annotations

import json
import resource

import pytest
import torch

from reformer_export.bench import bench_ops
from reformer_export.bench.op_cases import ENWIK8, SMALL, Layer, Operands
from reformer_export.bench.ops import OpsReport

TINY = Layer("tiny", heads=2, head_dim=4, chunk_length=8, rounds=2)


@pytest.fixture(scope="module")
def report() -> OpsReport:
    return bench_ops(
        threads=1, repeat=2, hf_lengths=(128,), kernel_length=512, sdpa_lengths=(128, 256)
    )


def test_hugging_faces_layer_gives_the_same_numbers() -> None:
    operands = Operands(TINY, 64)
    with torch.no_grad():
        expected, found = operands.huggingface()(), operands.lsh()
    torch.testing.assert_close(found.flatten(-2), expected)


def test_sdpa_is_over_the_same_tensors() -> None:
    operands = Operands(TINY, 8)  # one chunk, so that local attention is full attention
    torch.testing.assert_close(operands.sdpa().transpose(1, 2), operands.local())


def test_flops_by_hand() -> None:
    assert TINY.attention_flops(64) == 4 * (2 * 64) * 16 * 8
    assert TINY.factors(64) == (16,)
    assert TINY.lsh_flops(64) == TINY.attention_flops(64) + 64 * 8 * 2 * 16
    assert TINY.full_flops(64) == 4 * (64 * 65 // 2) * 8


def test_buckets_are_those_of_the_models() -> None:
    assert SMALL.factors(2048) == (64,)
    assert SMALL.factors(4096) == (128,)
    assert SMALL.factors(16384) == (16, 32)
    assert ENWIK8.factors(2048) == (512,)


@pytest.mark.slow
def test_every_comparison_is_made(report: OpsReport) -> None:
    assert [(r.what, r.against, r.layer, r.length) for r in report.results] == [
        ("lsh", "hf", SMALL.name, 128),
        ("sorted_chunk_attention", "gemm", SMALL.name, 512),
        ("chunk_attention", "gemm", SMALL.name, 512),
        ("sorted_chunk_attention", "gemm", ENWIK8.name, 512),
        ("chunk_attention", "gemm", ENWIK8.name, 512),
        ("lsh", "sdpa", SMALL.name, 128),
        ("lsh", "sdpa", SMALL.name, 256),
        ("lsh", "sdpa", ENWIK8.name, 128),
        ("lsh", "sdpa", ENWIK8.name, 256),
    ]
    assert not list(report.troubles())
    assert not report.failed


@pytest.mark.slow
def test_the_document_is_complete_and_json(report: OpsReport) -> None:
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["operators"].endswith(("portable operators", ")"))
    best = document["gemm"]["best_gflops"]
    for result in document["results"]:
        assert len(result["seconds"]) == len(result["ratios"]) == 2
        assert result["status"] == "ok"
        if result["against"] == "gemm":
            rates = [result["flops"] / seconds / 1e9 for seconds in result["seconds"]]
            assert result["ratios"] == pytest.approx([rate / best for rate in rates])
        else:
            pairs = zip(result["other_seconds"], result["seconds"], strict=True)
            assert result["ratios"] == [theirs / ours for theirs, ours in pairs]


@pytest.mark.slow
def test_rows_show_what_the_header_says(report: OpsReport) -> None:
    assert {len(row) for row in report.rows()} == {len(report.header)}


@pytest.mark.slow
def test_a_comparison_that_breaks_is_reported_and_settings_are_put_back() -> None:
    threads, limit = torch.get_num_threads(), resource.getrlimit(resource.RLIMIT_DATA)
    report = bench_ops(threads=1, repeat=1, hf_lengths=(65,), kernel_length=64, sdpa_lengths=(64,))
    broken, *others = report.results
    assert (broken.status, broken.ratio) == ("failed", None)
    assert broken.reason
    assert [result.status for result in others] == ["ok"] * len(others)
    assert report.failed
    assert list(report.troubles()) == [
        f"lsh against hf, {SMALL.name}, 65 tokens: failed: {broken.reason}"
    ]
    assert torch.get_num_threads() == threads
    assert resource.getrlimit(resource.RLIMIT_DATA) == limit
    assert torch.is_grad_enabled()
