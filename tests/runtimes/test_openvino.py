"""OpenVINO gives the numbers of ONNX Runtime and passes every comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reformer_export import open_runner, verify_artifact
from reformer_export.errors import MissingDependencyError, UsageError
from reformer_export.host.optional import installed
from reformer_export.verification.matrix import verify_matrix

from ..models.configs import WIDE
from ..tools.artifact_fixtures import edit_manifest, make_artifact
from ..tools.model_fixtures import CONFIGS, Fixtures, feeds, worst_error
from ..tools.threads import assert_threads_share

needs_openvino = pytest.mark.skipif(
    not installed("openvino"), reason="openvino is not installed: pip install openvino"
)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ops": "native"}, "our kernels are for ONNX Runtime and torch; choose --ops portable"),
        ({"device": "cuda"}, "openvino does not run on cuda"),
    ],
)
def test_requests_that_it_refuses(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_runner(make_artifact(tmp_path / "artifact"), runtime="openvino", **options)


def test_bf16(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "artifact")
    edit_manifest(artifact, dtype="bf16")
    with pytest.raises(UsageError, match="it would compute a bf16 model in fp32"):
        open_runner(artifact, runtime="openvino")


@pytest.mark.skipif(installed("openvino"), reason="openvino is installed")
def test_without_openvino(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="not installed: pip install openvino"):
        open_runner(make_artifact(tmp_path / "artifact"), runtime="openvino")


@needs_openvino
def test_functions_are_inlined(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "artifact", external=True)
    runner = open_runner(artifact, runtime="openvino", threads=1)
    ids = np.arange(6).reshape(2, 3)
    logits = runner.run({"input_ids": ids, "attention_mask": [[1, 1, 1], [1, 1, 0]]})["logits"]
    np.testing.assert_array_equal(logits.argmax(-1), [[1, 2, 3], [4, 5, 0]])
    assert runner.description.startswith("openvino 20")
    assert runner.description.endswith("CPU, 1 threads, portable operators")
    runner.close()


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize("task", CONFIGS)
def test_numbers(fixtures: Fixtures, task: str) -> None:
    artifact = fixtures.artifact(task)
    ours = open_runner(artifact, ops="portable")
    theirs = open_runner(artifact, runtime="openvino")
    for length, batch in ((1, 1), (3, 2), (24, 3), (25, 1), (101, 3)):
        given = feeds(length, batch)
        assert worst_error(theirs.run(given), ours.run(given)) < 1e-5


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"dtype": "fp16"}, {"ops": "portable"}])
def test_it_passes_verification(fixtures: Fixtures, options: dict[str, Any]) -> None:
    artifact = fixtures.artifact(config=WIDE, **options)
    report = verify_artifact(artifact.path, runtime="openvino", lengths=[1, 7, 64], batches=[1, 3])
    assert report.passed, report.first_miss


@needs_openvino
@pytest.mark.slow
def test_it_is_in_the_matrix(fixtures: Fixtures) -> None:
    report = verify_matrix([fixtures.artifact().path], lengths=[13], batches=[2])
    (entry,) = (c for c in report.contenders if c.name.startswith("openvino"))
    assert entry.name == "openvino portable"
    assert entry.reason is None
    assert report.passed


@needs_openvino
@pytest.mark.slow
def test_threads_share_a_runner(fixtures: Fixtures) -> None:
    cases = [feeds(length) for length in (1, 5, 13, 64)]
    assert_threads_share(open_runner(fixtures.artifact(), runtime="openvino", threads=1), cases)
