"""Polygraphy reads the files that `verify --save-io` writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reformer_export.cli.main import main
from reformer_export.errors import UsageError
from reformer_export.runtimes import open_runner
from reformer_export.verification.parity import verify_artifact
from reformer_export.verification.parity.saved_io import INPUTS, OUTPUTS, save_io

from ...tools.artifact_fixtures import environment
from ...tools.model_fixtures import Fixtures


def polygraphy(*arguments: object) -> str:
    done = subprocess.run(
        # The same as its script, which contains the folder in which it was installed.
        [sys.executable, "-c", "from polygraphy.tools import main; main()", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
        # If it installed missing packages itself, we would not see which ones we have to pin.
        env={**environment(), "POLYGRAPHY_AUTOINSTALL_DEPS": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def saved(fixtures: Fixtures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "io"
    arguments = ["--lengths", "1,13", "--batch", "1,3", "--save-io", str(folder)]
    assert main(["verify", str(fixtures.artifact().path), *arguments]) == 0
    return folder


def test_polygraphy_reads_what_was_run(saved: Path, fixtures: Fixtures) -> None:
    from polygraphy.comparator import RunResults
    from polygraphy.json import load_json

    assert sorted(os.listdir(saved)) == [INPUTS, OUTPUTS]
    inputs = load_json(str(saved / INPUTS))
    results = RunResults.load(str(saved / OUTPUTS))["onnxruntime"]
    assert [feed["input_ids"].shape for feed in inputs] == [
        (batch, length) for length in (1, 13) for batch in (1, 3) for _ in range(2)
    ]
    runner = open_runner(fixtures.artifact())
    for feed, result in zip(inputs, results, strict=True):
        np.testing.assert_array_equal(runner.run(feed)["logits"], result["logits"])
    runner.close()


def test_polygraphy_runs_the_artifact_on_it(saved: Path, fixtures: Fixtures) -> None:
    model = fixtures.artifact().format_path("onnx")
    printed = polygraphy(
        "run", model, "--onnxrt", "--load-inputs", saved / INPUTS, "--load-outputs",
        saved / OUTPUTS, "--atol", "1e-4", "--rtol", "1e-4",
    )  # fmt: skip
    assert "PASSED" in printed


def test_polygraphy_inspects_the_artifact(fixtures: Fixtures) -> None:
    printed = polygraphy("inspect", "model", fixtures.artifact().format_path("onnx"))
    assert "input_ids [dtype=int64, shape=('batch', 'sequence')]" in printed


def test_a_folder_that_is_there_is_kept(saved: Path, fixtures: Fixtures) -> None:
    with pytest.raises(UsageError, match="exists: choose another folder to save"):
        verify_artifact(fixtures.artifact().path, lengths=[1], batches=[1], save_to=saved)
    with pytest.raises(UsageError, match="exists"):
        save_io(saved, [], "onnxruntime")
    assert sorted(os.listdir(saved)) == [INPUTS, OUTPUTS]
