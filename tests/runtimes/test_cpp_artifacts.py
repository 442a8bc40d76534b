"""Damaged artifacts: both programs refuse them, with the same facts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reformer_export.artifact import Artifact

from ..tools.artifact_fixtures import edit_manifest, make_artifact, older_document
from .programs import both_refuse, in_cpp, in_python


@pytest.mark.parametrize("name", ["absent", "file", "empty"])
def test_what_is_no_artifact(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    both_refuse(tmp_path / name, "--text", "x")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "1"},
        {"schema_version": 0},
        {"task": None},
        {"ops": {"domain": "reformer"}},
        {"ops": 3},
        {"files": {"model.onnx": {"sha256": "x", "bytes": -1}}},
        {"files": {"model.onnx": "x"}},
        {"files": {"model.onnx": {"sha256": True, "bytes": 1.5}}},
        {"files": {}},
        {"formats": {}},
        {"formats": []},
        {"formats": {"aoti": {"files": 1}}},
        {"formats": {"aoti": {"files": []}}},
        {"formats": {"aoti": {"files": [1]}}},
        {"files": []},
        {"files": {"manifest.json": {"sha256": "x", "bytes": 1}, "model.onnx": 1}},
        {"signature": None},
        {"signature": {"inputs": []}},
        {"signature": {"inputs": [{"name": "x", "dtype": "int64", "axes": ["a", 0]}]}},
        {"signature": {"inputs": [{"name": "x", "dtype": "int64", "axes": ["a", [None, "b"]]}]}},
        {"signature": {"inputs": [{"name": "x", "dtype": "int64", "axes": ["a", 5]}]}},
        {"signature": {"inputs": [{"name": "x", "dtype": "complex", "axes": []}]}},
    ],
)
def test_a_manifest_of_the_wrong_shape(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = make_artifact(tmp_path / "artifact")
    edit_manifest(folder, **changes)
    both_refuse(folder, "--text", "x")


@pytest.mark.parametrize(
    "change", [{"outputs": []}, {"vocab_size": 0}, {"min_length": 9, "max_length": 8}]
)
def test_a_signature_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = make_artifact(tmp_path / "artifact")
    signature = Artifact.open(folder).signature.to_json()
    edit_manifest(folder, signature=signature | change)
    both_refuse(folder, "--text", "x")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\xff", b"[" * 100_000, b'{"a": ' * 1000, b"[1, 2"]
)
def test_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    """The two JSON parsers describe the error in different words."""
    folder = make_artifact(tmp_path / "artifact")
    (folder / "manifest.json").write_bytes(content)
    for program in (in_python, in_cpp):
        ran = program(folder, "--text", "x")
        assert ran.code == 1
        assert "manifest.json is not valid JSON (" in ran.error
        assert ran.error.endswith("): the artifact is damaged, export the model again")


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_manifest(tmp_path: Path, version: int) -> None:
    folder = make_artifact(tmp_path / "artifact", external=True)
    document = older_document(Artifact.open(folder).manifest, version)
    (folder / "manifest.json").write_text(json.dumps(document))
    ran = in_cpp(folder, "--text", "x", "--json")
    assert ran.code == 0
    assert ran.document["runtime"] == "onnxruntime"


def test_a_manifest_of_a_later_schema(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    edit_manifest(folder, schema_version=4)
    ran = in_cpp(folder, "--text", "x")
    assert ran.code == 1
    assert "manifest.json has schema version 4 and this runtime reads up to 3" in ran.error


def test_a_manifest_that_is_too_large(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    (folder / "manifest.json").write_bytes(b" " * (16 * 2**20 + 1))
    assert "that is no manifest" in both_refuse(folder, "--text", "x")


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def outside(path: Path) -> None:
    path.rename(path.parent.parent / "outside")
    path.symlink_to("../outside")


def to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["model.onnx", "config.json"])
@pytest.mark.parametrize(
    "damage",
    [
        changed,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
        outside,
        folder_instead,
        fifo_instead,
    ],
)
def test_a_damaged_artifact(tmp_path: Path, name: str, damage: Callable[[Path], Any]) -> None:
    folder = make_artifact(tmp_path / "artifact")
    damage(folder / name)
    both_refuse(folder, "--text", "x")


def test_a_link_to_itself(tmp_path: Path) -> None:
    """The words of the system and those of Python differ here."""
    folder = make_artifact(tmp_path / "artifact")
    to_itself(folder / "model.onnx")
    for program in (in_python, in_cpp):
        ran = program(folder, "--text", "x")
        assert ran.code == 1
        assert "the file that manifest.json lists, 'model.onnx' cannot be read: " in ran.error


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "/etc/passwd", "a/b", "a\\b", "c:b", "a\nb", "a'b/\""]
)
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    folder = make_artifact(tmp_path / "artifact")
    os.mkfifo(tmp_path / "secret")  # opening it would block
    files = {"model.onnx": Artifact.open(folder).manifest.files["model.onnx"]}
    entry = {n: {"sha256": r.sha256, "bytes": r.bytes} for n, r in files.items()}
    edit_manifest(folder, files=entry | {name: {"sha256": "x", "bytes": 1}})
    assert "is not a plain file name inside the folder" in both_refuse(folder, "--text", "x")
