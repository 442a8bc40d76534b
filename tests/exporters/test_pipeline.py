"""Export and verification in one step: the artifact is correct, or nothing is written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch

import reformer_export
from reformer_export import to_onnx
from reformer_export.artifact import Artifact
from reformer_export.errors import MissingDependencyError, ParityError, UsageError
from reformer_models.config import ReformerConfig
from reformer_models.errors import ReformerError
from reformer_models.layers import reversible
from reformer_ops import onnx_bodies
from reformer_ops.core.onnx_writer import OnnxWriter

from ..tools.artifact_fixtures import make_artifact, snapshot
from ..tools.model_fixtures import Fixtures

TASK = "fill-mask"


def test_what_comes_out_is_verified(fixtures: Fixtures, tmp_path: Path) -> None:
    source = fixtures.checkpoint(TASK)
    before = snapshot(source)
    said: list[str] = []
    artifact = to_onnx(source, tmp_path / "new" / "out", progress=said.append)
    assert artifact.path == tmp_path / "new" / "out"
    assert os.listdir(tmp_path / "new") == ["out"]
    assert snapshot(source) == before

    record = artifact.parity("onnx")
    assert record is not None
    assert record["passed"] is True
    assert set(record["references"]) == {"torch", "transformers"}
    assert record["worst_error"] < 1e-5
    assert {row["length"] for row in record["rows"]} == {1, 4, 5, 6, 7, 12, 13, 29, 96}
    assert {row["batch"] for row in record["rows"]} == {1, 3}
    assert {row["masked"] for row in record["rows"]} == {True, False}
    assert {row["seed"] for row in record["rows"]} == {0, 1}
    # The comparison runs what plain onnxruntime runs, even if our kernels are installed here.
    assert record["candidate"].endswith("portable operators")

    assert Artifact.open(artifact.path) == artifact
    stored = json.loads((artifact.path / "manifest.json").read_text())
    assert stored["formats"]["onnx"]["parity"] == record
    assert said[:3] == [f"loading {source}", "tracing the model", "writing the artifact"]
    assert said[3] == "comparing length 1, batch 1"


def test_verification_can_be_left_out(fixtures: Fixtures, tmp_path: Path) -> None:
    """With the functions that README uses: those of the package itself."""
    said: list[str] = []
    artifact = reformer_export.to_onnx(
        fixtures.checkpoint(TASK), tmp_path / "out", verify=False, progress=said.append
    )
    assert artifact.parity("onnx") is None
    assert not [message for message in said if message.startswith("comparing")]
    assert artifact.manifest.files == fixtures.artifact(TASK).manifest.files
    runner = reformer_export.open_runner(artifact.path)
    try:
        found = runner.run({"input_ids": [[1, 2, 3]]})
    finally:
        runner.close()
    assert found["logits"].shape == (1, 3, 258)


def wrong_rotations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another seed in both our model and its export: only transformers shows the difference."""

    draw = reversible.draw_rotations

    def draw_otherwise(config: ReformerConfig) -> torch.Tensor:
        return draw(dataclasses.replace(config, hash_seed=99))

    monkeypatch.setattr(reversible, "draw_rotations", draw_otherwise)


def wrong_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local attention that looks one chunk further back than its attribute says."""
    original = onnx_bodies._BODIES["ChunkAttention"]

    def body(w: OnnxWriter, *inputs: ir.Value, num_chunks_before: int, **rest: Any) -> ir.Value:
        return original(w, *inputs, num_chunks_before=num_chunks_before + 1, **rest)

    monkeypatch.setitem(onnx_bodies._BODIES, "ChunkAttention", body)


def test_a_wrong_export_leaves_nothing(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fixtures.checkpoint(TASK)
    before = snapshot(source)
    wrong_rotations(monkeypatch)
    with pytest.raises(ParityError) as caught:
        to_onnx(source, tmp_path / "new" / "out")
    assert os.listdir(tmp_path) == []
    assert snapshot(source) == before
    message = str(caught.value)
    assert message.startswith(f"the export of {source} does not give the model's numbers: ")
    assert "(against transformers, length " in message
    assert message.endswith("no artifact was written")
    assert "\n" not in message
    report = caught.value.report
    assert report is not None
    assert report["passed"] is False
    assert json.dumps(report, allow_nan=False)
    rows = report["rows"]
    assert {row["reference"] for row in rows if row["misses"]} == {"transformers"}
    assert any(row["passed"] for row in rows)  # a sequence of one chunk is not hashed


def test_a_wrong_export_leaves_the_artifact_that_was_there(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make_artifact(tmp_path / "out")
    before = snapshot(tmp_path)
    wrong_body(monkeypatch)
    with pytest.raises(ParityError, match=r"\(against torch, length "):
        to_onnx(fixtures.checkpoint(TASK), out, force=True)
    assert snapshot(tmp_path) == before
    assert os.listdir(tmp_path) == ["out"]


def test_an_artifact_is_replaced_when_that_is_asked_for(fixtures: Fixtures, tmp_path: Path) -> None:
    source, out = fixtures.checkpoint(TASK), tmp_path / "out"
    make_artifact(out, files={"tokenizer.json": b"{}"})
    before = snapshot(out)
    with pytest.raises(UsageError, match="exists: choose another folder, or --force"):
        to_onnx(source, out, verify=False)
    assert snapshot(out) == before
    artifact = to_onnx(source, out, verify=False, force=True)
    assert artifact.manifest.files == fixtures.artifact(TASK).manifest.files
    assert artifact.file("tokenizer.json") is None
    assert os.listdir(tmp_path) == ["out"]


def test_the_checkpoint_itself_is_never_replaced(fixtures: Fixtures, tmp_path: Path) -> None:
    source = shutil.copytree(fixtures.checkpoint(TASK), tmp_path / "checkpoint")
    before = snapshot(source)
    with pytest.raises(UsageError, match="is not an artifact of reformer-export"):
        to_onnx(source, source, verify=False, force=True)
    assert snapshot(source) == before


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"opset": 9}, {"ops": "x"}])
def test_options_are_looked_at_first(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        to_onnx(tmp_path / "absent", tmp_path / "new" / "out", **options)
    assert os.listdir(tmp_path) == []


def test_without_a_runtime_nothing_is_begun(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    said: list[str] = []
    with pytest.raises(MissingDependencyError, match=r"--no-verify .* pip install onnxruntime"):
        to_onnx(fixtures.checkpoint(TASK), tmp_path / "out", progress=said.append)
    assert said == []
    assert os.listdir(tmp_path) == []


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReformerError, match="does not exist; name a folder"):
        to_onnx(tmp_path / "absent", tmp_path / "new" / "out")
    assert os.listdir(tmp_path) == []
