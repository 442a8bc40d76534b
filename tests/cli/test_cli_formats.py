"""`to-torchscript`, `to-aoti` and `--runtime` from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from reformer_export.artifact import Artifact
from reformer_export.cli.main import main

from ..tools.artifact_fixtures import snapshot
from ..tools.model_fixtures import TINY, Fixtures
from .invocation import document, error_line


@pytest.fixture(scope="module")
def source(fixtures: Fixtures) -> Path:
    return fixtures.checkpoint("text-generation", TINY)


@pytest.fixture(scope="module")
def artifact(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported to ONNX and TorchScript; only TorchScript is verified."""
    out = tmp_path_factory.mktemp("cli") / "artifact"
    assert main(["to-onnx", "-m", str(source), str(out), "--no-verify"]) == 0
    assert main(["to-torchscript", "-m", str(source), str(out)]) == 0
    return out


def test_what_is_told(
    artifact: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["to-torchscript", "-m", str(source), str(out), "--no-verify", "--ops", "portable"]
    assert main(arguments) == 0
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert printed["artifact"].strip() == str(out)
    assert printed["formats"].strip() == "torchscript"
    assert printed["verified"].strip() == "no (--no-verify)"
    found = document(capsys, *arguments, "--force", "--max-length", 64)
    assert found["manifest"]["formats"]["torchscript"]["ops"] == "portable"
    assert found["manifest"]["signature"]["max_length"] == 64


def test_inspect(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(artifact)]) == 0
    printed = capsys.readouterr().out
    assert "torchscript  model.pt, native operators, made with reformer-export" in printed
    assert "verified when it was made" in printed
    assert "not verified: reformer-export verify does it" in printed  # model.onnx
    assert "sha256" in printed


def test_inspect_without_onnx(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["to-torchscript", "-m", str(source), str(out), "--no-verify"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    assert "model.pt" in capsys.readouterr().out
    assert document(capsys, "inspect", out)["graph"]["ops"] == {}


def test_run_in_each(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {}
    for runtime in ("auto", "onnxruntime", "torchscript", "torch"):
        saved = tmp_path / f"{runtime}.npz"
        arguments = ["run", artifact, "--text", "deployed", "--runtime", runtime]
        found = document(capsys, *arguments, "--tokenizer", "bytes", "--output", saved)
        assert found["runtime"] == ("onnxruntime" if runtime == "auto" else runtime)
        with np.load(saved) as arrays:
            answers[runtime] = arrays["logits"]
    assert np.array_equal(answers["auto"], answers["onnxruntime"])
    for name in ("torchscript", "torch"):
        np.testing.assert_allclose(answers[name], answers["auto"], rtol=0, atol=2e-5)


def test_verify_in_one(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", artifact, "--runtime", "torchscript", "--lengths", "1,13"]
    found = document(capsys, *arguments)
    assert found["passed"] is True
    assert found["candidate"].startswith("torch ")
    assert set(found["references"]) == {"torch", "transformers"}


@pytest.mark.slow
def test_bench_in_one(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", artifact, "--runtime", "torchscript", "--lengths", "13"]
    found = document(capsys, *arguments, "--repeat", "1", "--threads", "1")
    (result,) = found["results"]
    assert result["status"] == "ok"
    assert result["description"].startswith("torch ")


@pytest.mark.parametrize("verb", ["run", "verify", "bench"])
def test_a_runtime_the_artifact_has_nothing_for(
    artifact: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--text", "x", "--tokenizer", "bytes"] if verb == "run" else []
    assert main([verb, str(artifact), "--runtime", "aoti", *more]) == 2
    assert "holds no aoti, but onnx and torchscript" in error_line(capsys)
    assert main([verb, str(artifact), "--runtime", "abacus", *more]) == 2
    assert "unknown runtime 'abacus': choose auto or one of" in error_line(capsys)


def test_what_is_there_is_not_replaced(
    artifact: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(artifact)
    assert main(["to-torchscript", "-m", str(source), str(artifact)]) == 2
    assert "--force to replace its torchscript" in error_line(capsys)
    assert snapshot(artifact) == before


def test_machine_code_for_instructions_this_machine_lacks(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reformer_export.exporters.torch import aoti

    here = {"architecture": "x86_64", "instructions": "avx2"}
    monkeypatch.setattr(aoti, "this_machine", lambda: dict(here))
    monkeypatch.setattr("reformer_export.artifact.machine_code.this_machine", lambda: dict(here))
    arguments = ["to-aoti", "-m", str(source), str(tmp_path / "out"), "--isa", "avx512"]
    assert main(arguments) == 1
    assert "compiled for instructions avx512; this machine has avx2" in error_line(capsys)
    assert os.listdir(tmp_path) == []


def test_the_artifact_is_sound(artifact: Path) -> None:
    assert Artifact.open(artifact).formats == ("onnx", "torchscript")
