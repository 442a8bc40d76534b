"""`reformer-export bench`, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reformer_export.bench.contenders import AGAINST as CONTENDERS
from reformer_export.cli.bench import AGAINST
from reformer_export.cli.main import main

from ..tools.artifact_fixtures import environment
from ..tools.model_fixtures import Fixtures

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Fixtures(tmp_path_factory.mktemp("bench")).artifact().path


def test_against_offers_whom_there_is() -> None:
    assert set(AGAINST) == set(CONTENDERS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give an ARTIFACT or --ops, and not both"),
        (["a", "--ops"], "Give an ARTIFACT or --ops, and not both"),
        (["--ops", "--against", "hf"], "--runtime and --device go with an ARTIFACT"),
        (["--ops", "--runtime", "aoti"], "--runtime and --device go with an ARTIFACT"),
        (["a", "--against", "hf,trax"], "'trax' is not one of hf, full, portable"),
        (["a", "--lengths", "1024,x"], "'1024,x' is not a list"),
        (["a", "--repeat", "0"], "0 is not in the range"),
        (["a", "--patience", "0"], "0.0 is not in the range"),
    ],
)
def test_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_an_absent_artifact(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", str(tmp_path / "gone")]) == 1
    assert "there is no artifact at" in capsys.readouterr().err


def test_a_document_and_files(
    capsys: pytest.CaptureFixture[str], artifact: Path, tmp_path: Path
) -> None:
    arguments = ["--lengths", "48,24", "--repeat", "1", "--threads", "1", "--out", str(tmp_path)]
    assert main(["bench", str(artifact), *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    results = [(result["contender"], result["length"]) for result in document["results"]]
    assert results == [("ours", 24), ("ours", 48)]
    assert (tmp_path / "bench.png").read_bytes().startswith(PNG)
    assert json.loads((tmp_path / "results.json").read_text()) == document


@pytest.mark.slow
def test_a_table_and_code_1_for_a_contender_that_breaks(
    capsys: pytest.CaptureFixture[str], artifact: Path, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone")
    arguments = ["--lengths", "24", "--repeat", "1", "--against", "full", "--checkpoint", gone]
    assert main(["bench", str(artifact), *arguments]) == 1
    shown = capsys.readouterr().out
    assert "tokens/s" in shown
    assert "full at 24: failed: " in shown


def test_plots_that_cannot_be_drawn_are_told_before_the_work(
    artifact: Path, tmp_path: Path
) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not for this system')")
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "reformer_export", "bench", str(artifact), "--out", "plots"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: drawing plots needs matplotlib")
    assert 'pip install "reformer-export[bench]"' in done.stderr
    assert not (tmp_path / "plots").exists()


def test_out_that_is_a_file(
    capsys: pytest.CaptureFixture[str], artifact: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["bench", str(artifact), "--out", str(tmp_path / "file")]) == 2
    assert "that is a file; name a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
