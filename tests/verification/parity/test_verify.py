"""Compares artifacts with the checkpoint that their manifest names, or with another one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers

from reformer_export import to_onnx
from reformer_export.artifact import Artifact
from reformer_export.errors import ArtifactError, UsageError
from reformer_export.verification.parity import verify, verify_artifact

from ...models.reformers import theirs
from ...models.saved_models import save_bin
from ...tools.artifact_fixtures import snapshot
from ...tools.model_fixtures import CONFIGS, TINY, Fixtures
from .defects import weight, with_defect


@pytest.fixture
def checkpoint(fixtures: Fixtures, tmp_path: Path) -> Path:
    return shutil.copytree(fixtures.checkpoint("fill-mask"), tmp_path / "checkpoint")


@pytest.fixture
def artifact(fixtures: Fixtures, checkpoint: Path, tmp_path: Path) -> Artifact:
    """An artifact whose manifest names `checkpoint` as its source."""
    made = fixtures.artifact("fill-mask")
    path = shutil.copytree(made.path, tmp_path / "artifact")
    manifest = path / "manifest.json"
    source = str(fixtures.checkpoint("fill-mask"))
    manifest.write_text(manifest.read_text().replace(source, str(checkpoint)))
    return Artifact.open(path)


def one_line(caught: pytest.ExceptionInfo[Exception]) -> None:
    assert "\n" not in str(caught.value)


def test_an_artifact_is_equal_to_where_it_came_from(artifact: Artifact, checkpoint: Path) -> None:
    before = snapshot(artifact.path), snapshot(checkpoint)
    said: list[str] = []
    report = verify_artifact(artifact.path, lengths=[5, 13], progress=said.append)
    assert report.passed
    assert set(report.references) == {"torch", "transformers"}
    assert report.references["transformers"].startswith(f"transformers {transformers.__version__}")
    assert report.candidate.startswith("onnxruntime")
    assert report.notes == ()
    # Two references, two lengths, two batches, two inputs.
    assert len(report.rows) == 16
    assert {row.masked for row in report.rows if row.batch == 3} == {True}
    assert report.worst_error < 1e-5
    assert said == [
        f"loading {checkpoint}",
        *(f"comparing length {n}, batch {batch}" for n in (5, 13) for batch in (1, 3)),
    ]
    assert (snapshot(artifact.path), snapshot(checkpoint)) == before


def tasks(often: str) -> list[Any]:
    """All tasks; all but `often` are slow tests."""
    return [often, *(pytest.param(t, marks=pytest.mark.slow) for t in CONFIGS if t != often)]


@pytest.mark.parametrize("task", tasks("question-answering"))
def test_every_task_and_the_usual_sizes(fixtures: Fixtures, task: str) -> None:
    report = verify_artifact(fixtures.artifact(task).path)
    assert report.passed, report.summary()
    assert {row.length for row in report.rows} == {1, 4, 5, 6, 7, 12, 13, 29, 96}
    assert report.worst_error < 1e-5


@pytest.mark.parametrize("task", tasks("text-generation"))
def test_half_precision(fixtures: Fixtures, task: str) -> None:
    """The only reference is our model in fp32, because two ways to round are not compared."""
    artifact = fixtures.artifact(task, dtype="fp16", ops="portable")
    report = verify_artifact(artifact.path, lengths=[4, 7, 13, 96], batches=[3])
    assert report.passed, report.summary()
    assert set(report.references) == {"torch"}


def test_portable_and_external_artifacts(fixtures: Fixtures) -> None:
    for options in ({"ops": "portable"}, {"external_data": True}):
        report = verify_artifact(fixtures.artifact(**options).path, lengths=[13], batches=[3])
        assert report.passed, report.summary()
        assert report.decisions > 0


def test_a_checkpoint_that_is_gone(artifact: Artifact, checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    said = f"was exported from {checkpoint}, which is not there any more: .* --against"
    with pytest.raises(ArtifactError, match=said) as caught:
        verify_artifact(artifact.path)
    one_line(caught)


def test_a_checkpoint_that_moved(artifact: Artifact, checkpoint: Path) -> None:
    moved = checkpoint.rename(checkpoint.parent / "moved")
    assert verify_artifact(artifact.path, against=moved, lengths=[13], batches=[1]).passed


def test_a_checkpoint_that_changed(artifact: Artifact, checkpoint: Path) -> None:
    theirs("fill-mask", seed=7, **CONFIGS["fill-mask"]).save_pretrained(checkpoint)
    with pytest.raises(ArtifactError, match=r"model\.safetensors has changed since") as caught:
        verify_artifact(artifact.path)
    one_line(caught)


def test_a_checkpoint_whose_weights_are_in_another_file_now(
    fixtures: Fixtures, artifact: Artifact, checkpoint: Path
) -> None:
    (checkpoint / "model.safetensors").unlink()
    config = (checkpoint / "config.json").read_bytes()
    save_bin(checkpoint, fixtures.model("fill-mask"))
    (checkpoint / "config.json").write_bytes(config)
    with pytest.raises(ArtifactError, match=r"pytorch_model\.bin has changed since the export"):
        verify_artifact(artifact.path)
    assert verify_artifact(artifact.path, against=checkpoint, lengths=[5], batches=[1]).passed


def test_another_checkpoint_is_another_model(artifact: Artifact, tmp_path: Path) -> None:
    other = tmp_path / "other"
    theirs("fill-mask", seed=7, **CONFIGS["fill-mask"]).save_pretrained(other)
    report = verify_artifact(artifact.path, against=other, lengths=[13], batches=[1])
    assert not report.passed
    assert "outputs differ" in report.summary() or "a bucket differs" in report.summary()


def test_what_the_manifest_pinned_is_what_counts(tmp_path: Path) -> None:
    """Buckets and seed come from the artifact, not from the checkpoint."""
    theirs("text-generation", **TINY).save_pretrained(tmp_path / "checkpoint")
    artifact = to_onnx(
        tmp_path / "checkpoint", tmp_path / "out", num_buckets=(2, 6), hash_seed=11, verify=False
    )
    assert verify_artifact(artifact.path, lengths=[13], batches=[3]).passed


def test_a_checkpoint_that_is_named_from_home(
    artifact: Artifact, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    manifest = artifact.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(str(checkpoint), "~/checkpoint"))
    assert verify_artifact(artifact.path, lengths=[5], batches=[1]).passed


def test_without_transformers_our_model_is_what_there_is(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "installed_version", lambda package: None)
    report = verify_artifact(artifact.path, lengths=[13], batches=[1])
    assert report.passed
    assert set(report.references) == {"torch"}
    assert report.notes == ("transformers is not installed: compared with our model only",)


def test_a_stricter_tolerance(artifact: Artifact) -> None:
    strict = verify_artifact(artifact.path, lengths=[13], batches=[1], tolerance=1e-12)
    assert strict.tolerance.output == 1e-12
    assert not strict.passed


def test_a_looser_tolerance(artifact: Artifact, tmp_path: Path) -> None:
    defect = weight("lm_head.decoder.weight", lambda array: array * 1.001)
    broken = with_defect(artifact, tmp_path / "broken", defect)
    for tolerance, passes in ((None, False), (1e-2, True)):
        report = verify_artifact(broken.path, lengths=[13], batches=[1], tolerance=tolerance)
        assert report.passed is passes


def test_sizes_the_model_does_not_take(artifact: Artifact) -> None:
    with pytest.raises(UsageError, match="--lengths 121: this model takes 1 to 120 tokens"):
        verify_artifact(artifact.path, lengths=[5, 121])


def test_a_damaged_artifact_is_not_run(artifact: Artifact) -> None:
    data = bytearray(artifact.format_path("onnx").read_bytes())
    data[-1] ^= 1
    artifact.format_path("onnx").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"model\.onnx has sha256"):
        verify_artifact(artifact.path)
