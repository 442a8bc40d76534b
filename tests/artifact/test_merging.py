"""Formats are added to an artifact one by one; a folder never holds two models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from reformer_export import to_onnx, to_torchscript
from reformer_export.artifact import Artifact
from reformer_export.errors import ArtifactError, ParityError, UsageError
from reformer_export.exporters.torch import modules as torch_modules
from reformer_export.runtimes import open_runner
from reformer_export.runtimes.registry import best_runtime

from ..tools.artifact_fixtures import make_artifact, snapshot
from ..tools.model_fixtures import Fixtures, feeds, worst_error

TASK = "fill-mask"


@pytest.fixture
def source(fixtures: Fixtures) -> Path:
    return fixtures.checkpoint(TASK)


@pytest.fixture
def exported(fixtures: Fixtures, tmp_path: Path) -> Artifact:
    """What to_onnx exports from `source`, in a folder of its own."""
    return Artifact.open(shutil.copytree(fixtures.artifact(TASK).path, tmp_path / "out"))


def test_torchscript_joins_onnx(source: Path, exported: Artifact, tmp_path: Path) -> None:
    both = to_torchscript(source, exported.path)
    assert os.listdir(tmp_path) == ["out"]
    assert both.formats == ("onnx", "torchscript")
    assert both.manifest.formats["onnx"] == exported.manifest.formats["onnx"]
    assert both.parity("onnx") is None
    record = both.manifest.formats["torchscript"].parity
    assert record is not None
    assert record["passed"] is True
    files = dict(both.manifest.files)
    assert files.pop("model.pt").bytes > 10_000
    assert files == exported.manifest.files

    inputs = feeds(29, 2, vocab_size=258)
    runners = [open_runner(both, runtime=name) for name in ("onnxruntime", "torchscript")]
    first, second = (runner.run(inputs) for runner in runners)
    assert worst_error(first, second) < 1e-5
    assert best_runtime(both) == "onnxruntime"


def test_onnx_joins_torchscript(source: Path, tmp_path: Path) -> None:
    alone = to_torchscript(source, tmp_path / "out", verify=False, ops="portable")
    assert best_runtime(alone) == "torchscript"
    with pytest.raises(UsageError, match=r"holds no onnx, but torchscript: .* to-onnx"):
        open_runner(alone, runtime="onnxruntime")
    both = to_onnx(source, tmp_path / "out", verify=False, external_data=True)
    assert both.formats == ("torchscript", "onnx")
    record = both.manifest.formats["torchscript"]
    assert record == alone.manifest.formats["torchscript"]
    assert both.manifest.formats["onnx"].files == ("model.onnx", "model.onnx_data")
    assert both.manifest.files["model.pt"] == alone.manifest.files["model.pt"]
    assert both.file("model.onnx_data") is not None


def test_a_format_that_is_there_stays_unless_forced(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    to_onnx(source, out, verify=False, external_data=True)
    to_torchscript(source, out, verify=False)
    before = snapshot(out)
    with pytest.raises(UsageError, match=r"exists: .* or --force to replace its torchscript"):
        to_torchscript(source, out, verify=False, ops="portable")
    with pytest.raises(UsageError, match=r"exists: .* or --force to replace its onnx"):
        to_onnx(source, out, verify=False)
    assert snapshot(out) == before
    replaced = to_torchscript(source, out, verify=False, ops="portable", force=True)
    assert replaced.manifest.formats["torchscript"].ops == "portable"
    assert (out / "model.onnx").read_bytes() == before["model.onnx"]
    replaced = to_onnx(source, out, verify=False, force=True)
    assert replaced.formats == ("onnx", "torchscript")
    assert replaced.file("model.onnx_data") is None  # it belonged to the replaced format
    assert not (out / "model.onnx_data").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"dtype": "fp16"}, "dtype"),
        ({"max_length": 64}, "maximum length"),
        ({"hash_seed": 99}, "hashing"),
        ({"num_buckets": (4, 2)}, "hashing"),
        ({"task": "feature-extraction"}, "task"),
    ],
)
def test_another_model_does_not_join(
    source: Path, exported: Artifact, tmp_path: Path, options: dict[str, Any], what: str
) -> None:
    out = exported.path
    before = snapshot(out)
    with pytest.raises(UsageError, match=f"an artifact with another {what}: .* --force"):
        to_torchscript(source, out, verify=False, **options)
    assert snapshot(out) == before
    assert os.listdir(tmp_path) == ["out"]


def test_another_checkpoint_does_not_join(fixtures: Fixtures, exported: Artifact) -> None:
    out = exported.path
    other = fixtures.checkpoint("text-classification")
    with pytest.raises(UsageError, match="an artifact with another checkpoint"):
        to_torchscript(other, out, verify=False)
    replaced = to_torchscript(other, out, verify=False, force=True)
    assert replaced.formats == ("torchscript",)
    assert not (out / "model.onnx").exists()
    assert replaced == Artifact.open(out)


def test_a_damaged_artifact_is_not_added_to(source: Path, exported: Artifact) -> None:
    out = exported.path
    (out / "model.onnx").write_bytes((out / "model.onnx").read_bytes()[:-1])
    before = snapshot(out)
    with pytest.raises(ArtifactError, match="it was cut or changed"):
        to_torchscript(source, out, verify=False)
    assert snapshot(out) == before
    assert to_torchscript(source, out, verify=False, force=True).formats == ("torchscript",)


def test_files_of_others_stop_it(source: Path, tmp_path: Path) -> None:
    out = make_artifact(tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    before = snapshot(out)
    with pytest.raises(UsageError, match=r"notes\.txt"):
        to_torchscript(source, out, verify=False)
    assert snapshot(out) == before


def test_a_wrong_export_leaves_the_artifact_as_it_was(
    source: Path, exported: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = exported.path
    before = snapshot(tmp_path)
    head = torch_modules.Traced.head

    def scaled(self: Any, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: tensor * 1.001 for name, tensor in head(self, hidden).items()}

    monkeypatch.setattr(torch_modules.Traced, "head", scaled)
    with pytest.raises(ParityError, match=r"outputs differ by 1\.0e-03 of their scale") as caught:
        to_torchscript(source, out)
    assert snapshot(tmp_path) == before
    assert os.listdir(tmp_path) == ["out"]
    report = caught.value.report
    assert report is not None
    assert {row["reference"] for row in report["rows"] if row["misses"]} == {
        "torch",
        "transformers",
    }
