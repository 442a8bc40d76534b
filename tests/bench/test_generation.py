"""`bench --generate` end to end: it reports every measurement, and what was not measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reformer_export.artifact import Artifact
from reformer_export.bench import bench_generation, generation
from reformer_export.bench.generation import GenerationReport
from reformer_export.errors import UsageError

from ..cli.invocation import child
from ..tools.model_fixtures import Fixtures


@pytest.fixture(scope="module")
def decoder(fixtures: Fixtures) -> Artifact:
    return fixtures.decoder()


@pytest.fixture(scope="module")
def report(decoder: Artifact) -> GenerationReport:
    return bench_generation(
        decoder.path, contexts=(30, 100), threads=1, against=("hf", "portable"), repeat=2
    )


@pytest.mark.slow
def test_everybody_is_measured(report: GenerationReport) -> None:
    measured = [(result.batch, result.context, result.contender) for result in report.results]
    names = ("ours", "portable", "hf")
    assert measured == [(rows, n, name) for rows in (1, 8) for n in (30, 100) for name in names]
    assert not report.failed
    for result in report.results:
        assert result.status == "ok"
        assert len(result.seconds) == 2
        assert (result.speedup is None) == (result.contender == "ours")
        assert result.growth is not None
        assert (result.growth == 1) == (result.context == 30)
        assert result.weight_share is not None
        assert result.weight_share > 0
        assert result.cache_bytes is not None
        assert result.cache_bytes > 0
    assert report.weight_seconds > 0


@pytest.mark.slow
def test_the_document_is_complete_and_json(report: GenerationReport) -> None:
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["threads"] == 1
    assert document["weight_bytes"] > 0
    assert len(document["results"]) == 12
    assert all(result["ms_per_step"] > 0 for result in document["results"])
    assert len(list(report.rows())) == 12
    assert {len(row) for row in report.rows()} == {len(report.header)}


def test_every_runtime_of_the_artifact_is_measured(fixtures: Fixtures) -> None:
    script = fixtures.generating_script(ops="native")
    report = bench_generation(script.path, contexts=(30,), batches=(2,), threads=1, repeat=1)
    (result,) = report.results
    assert (result.contender, result.status) == ("ours", "ok")
    assert report.description.startswith("torch 2")
    assert report.weight_bytes == (script.path / "model.pt").stat().st_size


def test_what_does_not_fit_is_said(decoder: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation.memory, "available", lambda: 1000)
    report = bench_generation(decoder.path, contexts=(30,), batches=(1,), threads=1, repeat=1)
    (result,) = report.results
    assert result.status == "refused"
    assert "of 0.0 GB" not in str(result.reason)
    assert list(report.troubles()) == [f"ours after 30 tokens, 1 rows: refused: {result.reason}"]
    assert not report.failed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contexts": (119,)}, "--lengths 119: this model generates after 1 to 118"),
        ({"contexts": (0,)}, "--lengths 0"),
        ({"against": ("full",)}, "--against full does not generate"),
    ],
)
def test_wrong_options(decoder: Artifact, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench_generation(decoder.path, threads=1, **options)


def test_the_command(decoder: Artifact) -> None:
    done = child(
        *("bench", decoder.path, "--generate", "--lengths", 20, "--repeat", 1, "--json"),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["results"]) == 2
    wrong = child("bench", decoder.path, "--generate", "--ops", capture_output=True)
    assert wrong.returncode == 2
