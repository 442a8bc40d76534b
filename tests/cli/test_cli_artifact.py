"""`verify`, `run`, `inspect` and `doctor` on an artifact that was really exported."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import record_files, write_manifest
from reformer_export.cli.main import main

from ..models.reformers import theirs
from ..tools.artifact_fixtures import snapshot
from ..tools.model_fixtures import TINY, Fixtures, feeds, outputs_of, worst_error
from ..verification.parity.defects import length_baked, weight, with_defect
from .invocation import document, error_line

TEXT = "Grüße aus Petersburg, lieber Rodion Romanowitsch!"


@pytest.fixture
def artifact(fixtures: Fixtures) -> Artifact:
    """A byte-level model with 258 ids; the first two ids are not bytes."""
    return fixtures.artifact("text-generation", TINY)


def test_verify(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(artifact.path)
    assert main(["verify", str(artifact.path), "--lengths", "5,13", "--batch", "3"]) == 0
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    assert line.startswith("equal to torch and transformers on 8 comparisons: ")
    assert "comparing length 13, batch 3" in printed.err
    assert snapshot(artifact.path) == before


def test_verify_json(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "verify", artifact.path, "--lengths", 13, "--batch", "1,2")
    assert found["passed"] is True
    assert [(row["length"], row["batch"]) for row in found["rows"][::2]] == [
        (13, batch) for batch in (1, 1, 2, 2)
    ]


def test_verify_finds_a_wrong_artifact(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    defect = weight("word_embeddings.weight", lambda array: array * 1.01)
    broken = with_defect(artifact, tmp_path / "broken", defect)
    arguments = ["verify", str(broken.path), "--lengths", "13", "--batch", "1"]
    assert main(arguments) == 3
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    assert line.startswith("parity miss: ")
    assert line.endswith("(against torch, length 13, batch 1)")
    found = document(capsys, *arguments, code=3)
    assert found["passed"] is False
    assert found["rows"][0]["misses"]


def test_verify_finds_an_artifact_that_does_not_run(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = with_defect(artifact, tmp_path / "broken", length_baked)
    found = document(capsys, "verify", broken.path, "--lengths", 31, "--batch", 1, code=3)
    assert found["summary"].startswith("parity miss: ")
    assert found["worst_error"] is None or found["worst_error"] > 1e-2


def test_verify_against_another_checkpoint(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs("text-generation", seed=5, **TINY).save_pretrained(tmp_path / "other")
    capsys.readouterr()
    arguments = ["verify", artifact.path, "--against", tmp_path / "other"]
    arguments += ["--lengths", "13", "--batch", "1"]
    assert document(capsys, *arguments, code=3)["passed"] is False
    assert main(["verify", str(artifact.path), "--against", str(tmp_path / "absent")]) == 1
    assert "absent does not exist; name a folder" in error_line(capsys)


def test_verify_without_the_checkpoint(
    artifact: Artifact, fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(artifact.path, tmp_path / "moved")
    source = str(fixtures.checkpoint("text-generation", TINY))
    manifest = (moved / "manifest.json").read_text()
    (moved / "manifest.json").write_text(manifest.replace(source, "/nowhere/checkpoint"))
    assert main(["verify", str(moved)]) == 1
    line = error_line(capsys)
    assert "exported from /nowhere/checkpoint, which is not there any more" in line
    assert "--against" in line
    arguments = ["verify", moved, "--against", source, "--lengths", 5, "--batch", 1]
    assert document(capsys, *arguments)["passed"] is True


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--lengths", "5,121", "--lengths 121: this model takes 1 to 120 tokens"),
        ("--batch", "0", "0 is below 1"),
    ],
)
def test_verify_sizes_the_model_does_not_take(
    artifact: Artifact, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    assert main(["verify", str(artifact.path), option, value]) == 2
    assert said in error_line(capsys)


def test_run_on_token_ids(
    artifact: Artifact, fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = feeds(29, 3, vocab_size=258)
    for name, array in inputs.items():
        np.save(tmp_path / f"{name}.npy", array)
    found = document(
        capsys,
        *("run", artifact.path, "--input-ids", tmp_path / "input_ids.npy"),
        *("--attention-mask", tmp_path / "attention_mask.npy"),
        *("--output", tmp_path / "out.npz", "--threads", 1),
    )
    expected = outputs_of(fixtures.model("text-generation", TINY), inputs)
    with np.load(tmp_path / "out.npz") as saved:
        assert worst_error(dict(saved), expected) < 1e-5
    assert (found["batch"], found["length"]) == (3, 29)
    assert found["outputs"] == {"logits": {"dtype": "float32", "shape": [3, 29, 258]}}
    assert found["saved"] == str(tmp_path / "out.npz")
    last = inputs["attention_mask"].sum(axis=1) - 1
    assert [(entry["position"], entry["index"]) for entry in found["predictions"]] == [
        (position, int(expected["logits"][row, position].argmax()))
        for row, position in enumerate(last.tolist())
    ]


def test_run_on_a_text(
    artifact: Artifact, fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text(TEXT, encoding="utf-8")
    ids = np.frombuffer(TEXT.encode(), np.uint8).astype(np.int64)[None] + 2
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    expected = outputs_of(fixtures.model("text-generation", TINY), inputs)
    for source in (["--text", TEXT], ["--text-file", str(tmp_path / "letter.txt")]):
        out = tmp_path / "out.npz"
        found = document(capsys, "run", artifact.path, *source, "--output", out)
        assert found["encoding"] == "bytes + 2"
        assert found["length"] == len(TEXT.encode())
        with np.load(out) as saved:
            assert worst_error(dict(saved), expected) < 1e-5
        out.unlink()


def test_run_for_people(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(artifact.path), "--text", TEXT]) == 0
    printed = capsys.readouterr().out
    size = len(TEXT.encode())
    assert f"1 x {size} tokens, encoded as bytes + 2" in printed
    assert f"logits: float32 [1, {size}, 258]" in printed
    assert f"row 0, after token {size - 1}: " in printed


@pytest.mark.parametrize(
    ("ids", "mask", "said"),
    [
        (np.full((1, 5), 258), None, "is 258, outside the vocabulary 0..257"),
        (np.full((1, 5), -1), None, "is -1, outside the vocabulary 0..257"),
        (np.zeros((1, 0), int), None, "an empty sequence; the model takes 1 to 120"),
        (np.zeros((1, 121), int), None, "a sequence of 121 tokens; the model takes 1 to 120"),
        (np.zeros((2, 5), int), np.ones((2, 4), int), "has shape [2, 4] and input_ids [2, 5]"),
        (np.zeros((1, 5), int), np.full((1, 5), 2), "is 2: use 1 for a token and 0 for padding"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_run_refuses_what_the_model_does_not_take(
    artifact: Artifact,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ids: np.ndarray,
    mask: np.ndarray | None,
    said: str,
    as_json: bool,
) -> None:
    np.save(tmp_path / "ids.npy", ids)
    arguments = ["run", str(artifact.path), "--input-ids", str(tmp_path / "ids.npy")]
    arguments += ["--output", str(tmp_path / "out.npz")]
    if mask is not None:
        np.save(tmp_path / "mask.npy", mask)
        arguments += ["--attention-mask", str(tmp_path / "mask.npy")]
    before = snapshot(tmp_path)
    if as_json:
        found = document(capsys, *arguments, code=1)
        assert said in found["error"]
        assert found["exit_code"] == 1
    else:
        assert main(arguments) == 1
        assert said in error_line(capsys)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("verb", [["verify"], ["run", "--text", "x"], ["inspect"]])
@pytest.mark.parametrize("name", ["model.onnx", "config.json"])
def test_a_changed_file_is_refused_by_every_verb(
    artifact: Artifact,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: list[str],
    name: str,
) -> None:
    copy = shutil.copytree(artifact.path, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    assert main([verb[0], str(copy), *verb[1:]]) == 1
    line = error_line(capsys)
    assert f"{name} has sha256" in line
    assert line.endswith("export the model again")


@pytest.mark.parametrize("verb", [["verify"], ["run", "--text", "x"], ["inspect"]])
def test_external_data_outside_the_folder_is_refused_by_every_verb(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    artifact = fixtures.artifact(external_data=True)
    copy = shutil.copytree(artifact.path, tmp_path / "copy")
    (tmp_path / "weights").write_bytes((copy / "model.onnx_data").read_bytes())
    model = onnx.load(copy / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entry.value.replace("model.onnx_data", "../weights")
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    sealed = dataclasses.replace(artifact.manifest, files=record_files(copy))
    write_manifest(copy, sealed)
    assert main([verb[0], str(copy), *verb[1:]]) == 1
    assert "keeps its data in '../weights', which is no file of this" in error_line(capsys)


def test_inspect(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "inspect", artifact.path)
    model = onnx.load(artifact.format_path("onnx"))
    assert found["hashes_checked"] is True
    assert found["graph"]["ops"] == Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
    )
    assert found["graph"]["functions"] == {
        f"reformer.{body.name}": len(body.node) for body in model.functions
    }
    assert found["graph"]["opsets"] == {"ai.onnx": 18, "reformer": 1}
    weights = sum(onnx.numpy_helper.to_array(tensor).size for tensor in model.graph.initializer)
    assert found["graph"]["parameters"] == weights
    assert found["graph"]["external_data"] == []
    assert main(["inspect", str(artifact.path)]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "ReformerModelWithLMHead, text-generation, fp32",
        "input_ids: int64 [batch, sequence]",
        "logits: float32 [batch, sequence, 258]",
        "1 to 120 tokens",
        "2 rounds, buckets 4 x 6, seed 3, 1 layers",
        "1  reformer.LshBucket",
        "not verified",
        artifact.manifest.files["model.onnx"].sha256,
    ):
        assert expected in printed


def test_doctor_tells_what_these_tests_run_on(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {fact["name"]: fact for fact in document(capsys, "doctor")["facts"]}
    for package in ("torch", "onnx", "transformers", "onnxruntime"):
        assert facts[package]["status"] == "ok"
        assert facts[package]["detail"].startswith(importlib.metadata.version(package))
