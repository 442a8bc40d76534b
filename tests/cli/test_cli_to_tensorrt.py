"""`to-tensorrt`, and the other verbs with engines, as a user types them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from reformer_export.artifact.engine import ENGINE, RECORD, Engine
from reformer_export.cli.main import main
from reformer_export.host.gpu import find_gpus

from ..tools.model_fixtures import Fixtures
from .invocation import document, error_line

TASK = "fill-mask"


@pytest.fixture(scope="module")
def engine(fixtures: Fixtures) -> Engine:
    return fixtures.engine(TASK, dtype="fp16")


def test_a_build_in_words(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engine"
    arguments = [
        "to-tensorrt", str(fixtures.artifact(TASK).path), str(out),
        "--dtype", "fp16", "--no-verify",
        "--minShapes", "input_ids:1x2", "--optShapes=input_ids:1x20",
        "--maxShapes", "input_ids:2x64", "--target", "sm75,sm120", "--workspace", "100", "-v",
    ]  # fmt: skip
    assert main(arguments) == 0
    printed = capsys.readouterr()
    rows = dict(line.split(None, 1) for line in printed.out.splitlines())
    assert rows["targets"] == "sm75, sm120"
    assert rows["profile"] == "1x2 to 2x64, tuned for 1x20"
    assert "nothing here ran on a GPU" in rows["evidence"]
    assert "TensorRT-RTX info: " in printed.err
    assert Engine.open(out).record.targets == ("sm75", "sm120")


def test_a_build_as_a_document(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engine"
    found = document(
        capsys, "to-tensorrt", fixtures.artifact(TASK).path, out, "--no-verify", "--flavor", "rtx"
    )
    assert found == Engine.open(out).to_json()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--maxShapes", "input_ids:1x99999"], 2, "this model takes 1 to"),
        (["--minShapes", "64"], 2, "is not a shape such as input_ids:1x64"),
        (["--target", "sm90"], 2, "knows sm75, sm80, sm86"),
        (["--target", "sm80,,"], 2, "is not a list of names"),
        (["--target", "sm75"], 2, "choose --dtype fp16"),
        (["--dtype", "int8"], 2, "'int8' is not one of"),
        (["--workspace", "0"], 2, "is not in the range"),
        (["--ops", "plugin"], 2, "TensorRT-RTX takes no plugins"),
        (["--flavor", "standard"], 1, "tensorrt"),
        (["--against", "/nowhere"], 1, "/nowhere"),
    ],
)
def test_bad_input(
    fixtures: Fixtures,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    out = tmp_path / "new" / "out"
    command = ["to-tensorrt", str(fixtures.artifact(TASK).path), str(out), *arguments]
    assert main(command) == code
    assert said in error_line(capsys)
    assert os.listdir(tmp_path) == []


def test_an_artifact_of_several_formats(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, alone, out = tmp_path / "both", tmp_path / "alone", tmp_path / "engine"
    shutil.copytree(fixtures.artifact(TASK).path, both)
    for folder in (both, alone):
        checkpoint = str(fixtures.checkpoint(TASK))
        assert main(["to-torchscript", "-m", checkpoint, str(folder), "--no-verify"]) == 0
    assert main(["to-tensorrt", str(both), str(out), "--no-verify"]) == 0
    capsys.readouterr()
    assert main(["to-tensorrt", str(alone), str(out), "--no-verify", "--force"]) == 2
    assert "holds no onnx, but torchscript" in error_line(capsys)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_an_artifact_with_weights_beside_it(fixtures: Fixtures, tmp_path: Path, dtype: str) -> None:
    artifact = fixtures.artifact(TASK, external_data=True).path
    arguments = ["to-tensorrt", str(artifact), str(tmp_path / "engine"), "--dtype", dtype]
    assert main(arguments) == 0


def test_an_artifact_of_a_newer_schema(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = shutil.copytree(fixtures.artifact(TASK).path, tmp_path / "artifact")
    manifest = artifact / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"schema_version": 3', '"schema_version": 9', 1))
    assert main(["to-tensorrt", str(artifact), str(tmp_path / "out")]) == 1
    assert "schema version 9" in error_line(capsys)
    assert os.listdir(tmp_path) == ["artifact"]


def test_inspect_shows_an_engine(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(engine.path)]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "\ntargets    sm80, ",
        "LshBucket: portable",
        "matrix_multiply",
        "model.engine",
    ):
        assert expected in printed
    assert document(capsys, "inspect", engine.path) == engine.to_json()


@pytest.mark.parametrize("damaged", [ENGINE, RECORD])
def test_inspect_refuses_a_damaged_one(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: str
) -> None:
    copy = shutil.copytree(engine.path, tmp_path / "engine")
    path = copy / damaged
    path.write_bytes(path.read_bytes()[:-30])
    assert main(["inspect", str(copy)]) == 1
    assert damaged in error_line(capsys)


@pytest.mark.skipif(bool(find_gpus()[0]), reason="there is a GPU here, and this is about none")
def test_running_an_engine_without_a_gpu(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = tmp_path / "ids.npy"
    np.save(ids, np.arange(5))
    assert main(["run", str(engine.path), "--input-ids", str(ids)]) == 1
    assert "needs an NVIDIA GPU, and the NVIDIA driver" in error_line(capsys)


def test_doctor_tells_what_tensorrt_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {fact["name"]: fact for fact in document(capsys, "doctor")["facts"]}
    gpus, reason = find_gpus()
    rtx = facts["tensorrt-rtx"]
    assert rtx["status"] == "ok"
    assert rtx["detail"].endswith("runs engines" if gpus else "runs none without a GPU")
    assert facts["gpu"]["detail"] == ("; ".join(map(str, gpus)) or f"none: {reason}")
