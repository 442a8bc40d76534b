"""`--weights` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reformer_export.cli.main import main

from ..models.configs import WIDE
from ..tools.model_fixtures import Fixtures
from .invocation import document, error_line


@pytest.fixture
def source(fixtures: Fixtures) -> Path:
    return fixtures.checkpoint("text-generation", {**WIDE, "vocab_size": 48})


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    path = tmp_path / "ids.npy"
    np.save(path, np.random.default_rng(0).integers(48, size=(2, 100)))
    return path


def test_an_export_for_people(
    source: Path, ids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--weights", "int8", "--keep", "query_key,head", "--calibration", str(ids)]
    assert main(["to-onnx", "-m", str(source), str(out), "--no-verify", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("weights"))
    assert line.startswith("weights   int8, but query_key, head; on 200 tokens (ids.npy): outputs ")
    assert "hash decisions flipped" in line
    assert "equal predictions" in line
    assert main(["inspect", str(out)]) == 0
    assert "int8, but query_key, head" in capsys.readouterr().out


def test_a_document(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(
        capsys, "to-onnx", "-m", source, tmp_path / "out", "--weights", "int8", "--no-verify"
    )
    assert found["manifest"]["weights"] == {"type": "int8", "kept": [], "quality": None}


def test_more_loss_than_allowed_is_code_3(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "ids.npy"
    # With 8 bits, this model predicts zeros a little worse.
    np.save(text, np.zeros((1, 120), np.int64))
    arguments = ["--weights", "int8", "--calibration", str(text), "--max-loss", "0", "--no-verify"]
    code = main(["to-onnx", "-m", str(source), str(tmp_path / "out"), *arguments])
    assert code == 3
    assert "more bits for each token, and --max-loss allows 0.00%" in error_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "head"], "--keep is for weights of fewer bits: give --weights with it"),
        (["--weights", "int8", "--keep", "norms"], "there are no weights 'norms' to keep"),
        (["--weights", "int3"], "'int3' is not"),
        (["--weights", "fp16", "--dtype", "fp16"], "all weights have 16 bits already"),
        (["--weights", "int8", "--max-loss", "-1"], "-1"),
        (["--weights", "int8", "--calibration", "/no/file"], "cannot read /no/file"),
    ],
)
def test_what_is_refused(
    options: list[str],
    message: str,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["to-onnx", "-m", str(source), str(tmp_path / "out"), *options])
    assert code in (1, 2)
    assert message in error_line(capsys)
    assert not (tmp_path / "out").exists()
