"""`to-onnx` from the command line: its files and its output, and the files after a failure."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reformer_export.artifact import Artifact
from reformer_export.cli.main import main
from reformer_models.config import ReformerConfig
from reformer_models.layers import reversible

from ..models.saved_models import edit_config
from ..tools.artifact_fixtures import environment, make_artifact, snapshot
from ..tools.model_fixtures import TINY, Fixtures
from .invocation import document, error_line

TASK = "text-classification"


@pytest.fixture
def source(fixtures: Fixtures) -> Path:
    return fixtures.checkpoint(TASK)


def test_an_export(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(source)
    out = tmp_path / "out"
    found = document(capsys, "to-onnx", "-m", source, out)
    assert found["artifact"] == str(out)
    assert found["manifest"] == json.loads((out / "manifest.json").read_text())
    assert found["manifest"]["task"] == TASK
    assert found["manifest"]["formats"]["onnx"]["parity"]["passed"] is True
    assert Artifact.open(out)
    assert os.listdir(tmp_path) == ["out"]
    assert snapshot(source) == before


def test_an_export_for_people(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["to-onnx", "--model", str(source), str(out), "--no-verify"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:3] == [
        f"artifact  {out}",
        "source    huggingface",
        f"model     ReformerForSequenceClassification, {TASK}, fp32",
    ]
    assert printed.out.splitlines()[-1] == "verified  no (--no-verify)"
    assert printed.err.splitlines() == [
        f"loading {source}",
        "tracing the model",
        "writing the artifact",
    ]


def test_every_option_reaches_the_exporter(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "checkpoint"
    fixtures.model("text-generation", TINY).save_pretrained(source)
    edit_config(source, mystery=1, hash_seed=None)
    capsys.readouterr()
    options = ["--task", "feature-extraction", "--dtype", "fp16", "--opset", "20"]
    options += ["--max-length", "60", "--num-buckets", "2,4", "--hash-seed", "5"]
    options += ["--ops", "portable", "--external-data", "--no-verify"]
    options += ["--ignore-config-key", "mystery"]
    out = tmp_path / "out"
    assert main(["to-onnx", "-m", str(source), str(out), *options]) == 0
    found = Artifact.open(out).manifest
    assert (found.task, found.dtype) == ("feature-extraction", "fp16")
    assert found.formats["onnx"].details["opset"] == 20
    assert found.signature.max_length == 60
    assert (found.hashing.num_buckets, found.hashing.hash_seed) == ((2, 4), 5)
    assert found.formats["onnx"].ops == "portable"
    assert "model.onnx_data" in found.files
    assert found.source.ignored_keys == ("mystery",)
    # Values that were chosen for the user are reported to the user.
    printed = capsys.readouterr().err
    assert found.hashing.notes
    assert all(f"note: {note}\n" in printed for note in found.hashing.notes)


def test_a_parity_miss_is_code_3_and_leaves_nothing(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rotations from another seed: the graph is valid, but its numbers are of another model."""
    draw = reversible.draw_rotations

    def draw_otherwise(config: ReformerConfig) -> torch.Tensor:
        return draw(dataclasses.replace(config, hash_seed=99))

    monkeypatch.setattr(reversible, "draw_rotations", draw_otherwise)
    before = snapshot(source)
    assert main(["to-onnx", "-m", str(source), str(tmp_path / "out"), "--json"]) == 3
    printed = capsys.readouterr()
    (line,) = (line for line in printed.err.splitlines() if line.startswith("error: "))
    found = json.loads(printed.out)
    assert found["exit_code"] == 3
    assert line == f"error: {found['error']}"
    assert "does not give the model's numbers" in line
    assert "against transformers" in line
    assert found["parity"]["passed"] is False
    assert os.listdir(tmp_path) == []
    assert snapshot(source) == before


def test_an_existing_artifact_needs_force(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = make_artifact(tmp_path / "out")
    before = snapshot(tmp_path)
    arguments = ["to-onnx", "-m", str(source), str(out), "--no-verify"]
    assert main(arguments) == 2
    assert "or --force to replace it" in error_line(capsys)
    assert snapshot(tmp_path) == before
    assert main([*arguments, "--force"]) == 0
    assert Artifact.open(out).manifest.task == TASK
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("external", [False, True])
def test_a_disk_that_is_full(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], external: bool
) -> None:
    """No file may grow beyond 20 kB, which is enough for everything except the weights."""
    before = snapshot(source)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        options = ["--external-data"] if external else []
        code = main(["to-onnx", "-m", str(source), str(tmp_path / "new" / "out"), *options])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    line = error_line(capsys)
    assert "no room to write" in line
    assert "free some space or choose another disk" in line
    assert os.listdir(tmp_path) == []
    assert snapshot(source) == before


@pytest.mark.parametrize(
    "stage", ["tracing", pytest.param("comparing length 12", marks=pytest.mark.slow)]
)
def test_a_terminated_export_leaves_nothing(source: Path, tmp_path: Path, stage: str) -> None:
    before = snapshot(source)
    out = tmp_path / "new" / "out"
    command = [sys.executable, "-m", "reformer_export", "to-onnx", "-m", source, out]
    with subprocess.Popen(
        command,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(stage):
                break
        assert len(os.listdir(tmp_path / "new")) == 1
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert printed == ""
    assert os.listdir(tmp_path) == []
    assert snapshot(source) == before
