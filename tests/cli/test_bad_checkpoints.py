"""`to-onnx` refuses a bad checkpoint or output path with one line, and changes no file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reformer_export.cli.main import main

from ..models.saved_models import (
    BIN,
    SAFETENSORS,
    build,
    edit_config,
    save_safetensors,
    save_sharded_bin,
    save_sharded_safetensors,
)
from ..tools.artifact_fixtures import make_artifact, snapshot
from .invocation import document, error_line

Spoil = Callable[[Path], object]


class Payload:
    """Its pickle creates the folder "owned" when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("owned",)


def cut(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return spoil


def without(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: str) -> Spoil:
    return lambda folder: (folder / name).write_text(content)


def configured(**changes: object) -> Spoil:
    return lambda folder: edit_config(folder, **changes)


def pickled(folder: Path) -> None:
    (folder / SAFETENSORS).unlink()
    torch.save({"weight": Payload()}, folder / BIN)


def sharded(spoil: Callable[[Path, dict[str, str]], None]) -> Spoil:
    """Saves the weights in several files; `spoil` then damages a file or the index table."""

    def prepare(folder: Path) -> None:
        (folder / SAFETENSORS).unlink()
        save_sharded_safetensors(folder, build())
        index = folder / f"{SAFETENSORS}.index.json"
        table = json.loads(index.read_text())
        spoil(folder, table["weight_map"])
        index.write_text(json.dumps(table))

    return prepare


def shard_missing(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / next(iter(weight_map.values()))).unlink()


def shard_elsewhere(folder: Path, weight_map: dict[str, str]) -> None:
    weight_map[next(iter(weight_map))] = "../../secret.safetensors"


def shard_of_binaries_cut(folder: Path) -> None:
    (folder / SAFETENSORS).unlink()
    save_sharded_bin(folder, build())
    cut("pytorch_model-00002-of-00002.bin")(folder)


def other_shapes(folder: Path) -> None:
    edit_config(folder, feed_forward_size=16)


CHECKPOINTS: dict[str, tuple[Spoil, list[str], str]] = {
    "no weights": (without(SAFETENSORS), [], "holds no weights"),
    "no config": (without("config.json"), [], "has no config.json"),
    "weights cut": (cut(SAFETENSORS), [], "is cut short or damaged"),
    "config cut": (cut("config.json"), [], "config.json"),
    "config no json": (written("config.json", "{]"), [], "config.json"),
    "config a list": (written("config.json", "[]"), [], "config.json"),
    "weights empty": (written(SAFETENSORS, ""), [], "is cut short or damaged"),
    "weights with code": (pickled, [], "could run code hidden in it"),
    "shard missing": (sharded(shard_missing), [], "lacks 1 of the"),
    "shard elsewhere": (sharded(shard_elsewhere), [], "only files beside the index"),
    "shard cut": (shard_of_binaries_cut, [], "is cut short or damaged"),
    "unknown key": (configured(mystery_option=3), [], "'mystery_option'. If the model does not"),
    "unknown model": (configured(model_type="bert"), [], "bert"),
    "unknown activation": (configured(hidden_act="tanhshrink"), [], "tanhshrink"),
    "unknown architecture": (configured(architectures=["GPT2Model"]), [], "--task"),
    "unknown layer": (configured(attn_layers=["lsh", "global"]), [], "global"),
    "odd buckets": (configured(num_buckets=7), [], "num_buckets"),
    "no chunk": (configured(lsh_attn_chunk_length=0), [], "lsh_attn_chunk_length"),
    "wrong axes": (configured(axial_pos_embds_dim=[3, 6]), [], "axial_pos_embds_dim"),
    "other shapes": (other_shapes, [], "do not match"),
    "head missing": (lambda _: None, ["--task", "text-classification"], "needed for"),
    "head of another kind": (lambda _: None, ["--task", "fill-mask"], "is_decoder"),
    "buckets asked odd": (lambda _: None, ["--num-buckets", "3"], "num_buckets"),
    "revision of a folder": (lambda _: None, ["--revision", "main"], "revision"),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    save_safetensors(folder, build())
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes into the folder of the test, where the tests find files written by mistake."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_a_bad_checkpoint(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    spoil, options, said = CHECKPOINTS[what]
    spoil(source)
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert main(["to-onnx", "-m", str(source), "new/out", *options]) == 1
    line = error_line(capsys)
    assert said in line
    assert len(line) < 500
    assert snapshot(tmp_path) == before
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_a_bad_checkpoint_as_json(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without(SAFETENSORS)(source)
    capsys.readouterr()
    found = document(capsys, "to-onnx", "-m", source, "out", code=1)
    assert found["exit_code"] == 1
    assert "holds no weights" in found["error"]
    assert os.listdir(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "does not exist; name a folder, or a model on the hub as owner/name"),
        ("./absent", "does not exist; name a folder"),
        ("/absent/checkpoint", "does not exist; name a folder"),
        ("somebody/reformer", "the hub is out of reach (HF_HUB_OFFLINE is set)"),
        ("checkpoint/model.safetensors", "is not a folder"),
        ("", ""),
    ],
)
def test_a_checkpoint_that_is_not_there(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    before = snapshot(source)
    capsys.readouterr()
    assert main(["to-onnx", "-m", name, "out"]) == 1
    assert said in error_line(capsys)
    assert snapshot(source) == before
    assert os.listdir(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--opset", "17"], "cannot export opset 17: choose 18 to 23"),
        (["--opset", "24"], "cannot export opset 24: choose 18 to 23"),
        (["--max-length", "33"], "--max-length 33: this model takes 1 to 32 tokens"),
    ],
)
def test_bad_options(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    before = snapshot(source)
    capsys.readouterr()
    assert main(["to-onnx", "-m", str(source), "out", *options]) == 2
    assert said in error_line(capsys)
    assert snapshot(source) == before
    assert os.listdir(tmp_path) == ["checkpoint"]


def existing_folder(out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")


def existing_file(out: Path) -> None:
    out.write_text("mine")


def copied_checkpoint(out: Path) -> None:
    shutil.copytree(out.parent / "checkpoint", out)


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (make_artifact, [], "exists: choose another folder, or --force to replace it"),
        (existing_folder, [], "exists: choose another folder"),
        (existing_folder, ["--force"], "is not an artifact of reformer-export"),
        (copied_checkpoint, ["--force"], "is not an artifact of reformer-export"),
        (existing_file, [], "exists and is not a folder"),
        (existing_file, ["--force"], "exists and is not a folder"),
    ],
)
def test_a_place_that_is_taken(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object],
    options: list[str],
    said: str,
) -> None:
    make(tmp_path / "out")
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert main(["to-onnx", "-m", str(source), "out", *options]) == 2
    assert said in error_line(capsys)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("out", ["/proc/out", "/proc/new/out", "checkpoint/config.json/out"])
def test_a_place_where_nobody_can_write(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert main(["to-onnx", "-m", str(source), out]) == 2
    line = error_line(capsys)
    assert "cannot" in line
    assert line.endswith(("choose another folder", "choose another one"))
    assert snapshot(tmp_path) == before
