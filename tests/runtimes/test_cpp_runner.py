"""`reformer-run` as a runtime in Python: how it is found, its numbers, its buckets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from reformer_export import to_torchscript
from reformer_export.artifact import Artifact
from reformer_export.cli import doctor_checks as doctor
from reformer_export.errors import InferenceError, InputError, RuntimeUnavailableError, UsageError
from reformer_export.host import cpp_program
from reformer_export.host.cpp_program import VARIABLE, find_program
from reformer_export.runtimes import ProbingRunner, ShowingRunner, open_runner
from reformer_export.runtimes.cpp_runner import CppRunner
from reformer_export.verification.parity import verify_artifact
from reformer_ops.core.native import Choice

from ..tools.model_fixtures import TINY, Fixtures, feeds
from .programs import built

WAYS: tuple[Choice, ...] = ("native", "portable")


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program of this checkout, and no other on this machine."""
    path = built() / "reformer-run"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("ops", WAYS)
def test_the_numbers_and_the_buckets_of_python(artifact: Artifact, ops: Choice) -> None:
    ours = open_runner(artifact, runtime="cpp-onnxruntime", threads=1, ops=ops)
    theirs = open_runner(artifact, runtime="onnxruntime", threads=1, ops=ops)
    assert isinstance(ours, ShowingRunner)
    assert isinstance(theirs, ProbingRunner)
    assert ours.name == "cpp-onnxruntime"
    start, _, rest = ours.description.partition(", ")
    assert start.startswith("reformer-run ")
    assert rest == theirs.description
    for size in ((1, 1), (29, 2)):
        inputs = feeds(*size, vocab_size=258)
        expected, shown = theirs.probe(inputs), ours.show(inputs)
        assert len(shown.buckets) == len(expected.buckets) == 1
        np.testing.assert_array_equal(shown.buckets[0], expected.buckets[0])
        for found in (ours.run(inputs), shown.outputs):
            assert list(found) == ["logits"]
            np.testing.assert_array_equal(found["logits"], expected.outputs["logits"])
    ours.close()


def test_weights_beside_the_model(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact("text-generation", TINY, external_data=True)
    assert len(artifact.manifest.files) > len({"model.onnx", "config.json"})
    assert verify_artifact(
        artifact.path, runtime="cpp-onnxruntime", lengths=[13], batches=[1]
    ).passed


def test_what_it_cannot_do(artifact: Artifact, fixtures: Fixtures) -> None:
    portable = fixtures.artifact("text-generation", TINY, ops="portable")
    with pytest.raises(UsageError, match="it was exported with --ops portable"):
        open_runner(portable, runtime="cpp-onnxruntime", ops="native")
    with pytest.raises(UsageError, match="holds no torchscript"):
        open_runner(artifact, runtime="cpp-torchscript")
    runner = open_runner(artifact, runtime="cpp-onnxruntime")
    assert isinstance(runner, CppRunner)
    outside = {n: np.array([[1, 258]]) for n in ("input_ids", "attention_mask")}
    with pytest.raises(InputError, match=r"^input_ids\[0, 1\] is 258, "):
        runner.run(outside)
    with pytest.raises(InferenceError, match=r"^cpp-onnxruntime: input_ids\[0, 1\] is 258, "):
        runner.show(outside)


def test_no_program(
    artifact: Artifact, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = script(tmp_path / "text", "echo hello")
    dead = script(tmp_path / "dead", "kill -SEGV $$")
    for path, said in (
        (tmp_path / "none", f"there is none at {tmp_path}/none: name another in REFORMER_RUN"),
        (Path(os.devnull), f"there is none at {os.devnull}"),
        (text, r"text is no reformer-run of this release \(hello\)"),
        (dead, r"dead is no reformer-run of this release \(exit code -11\)"),
    ):
        monkeypatch.setenv(VARIABLE, str(path))
        with pytest.raises(RuntimeUnavailableError, match=said) as caught:
            open_runner(artifact, runtime="cpp-onnxruntime")
        assert "\n" not in str(caught.value)
    (fact,) = (f for f in doctor.diagnose() if f.name == "reformer-run")
    assert (fact.status, "is no reformer-run" in fact.detail) == (doctor.BROKEN, True)
    monkeypatch.setenv(VARIABLE, str(program))
    with pytest.raises(RuntimeUnavailableError, match=r"torchscript is here: .* was built"):
        find_program("torchscript")


def test_where_it_is_looked_for(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(cpp_program, "built_folder", lambda name: tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeUnavailableError, match=r"linux-\S+-torch/bin/reformer-run: make it"):
        find_program()
    (tmp_path / "reformer-run").symlink_to(program)
    assert find_program("onnxruntime").path == tmp_path / "reformer-run"


def test_a_program_that_dies(
    artifact: Artifact, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = find_program()
    printed = f"{version} ({', '.join(version.runtimes)})"
    path = script(tmp_path / "run", f'[ "$1" = --version ] && echo "{printed}" || kill -SEGV $$')
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(RuntimeUnavailableError, match="reformer-run ended with signal 11"):
        open_runner(artifact, runtime="cpp-onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("ops", WAYS)
def test_torchscript(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ops: str
) -> None:
    monkeypatch.setenv(VARIABLE, str(built("--torch") / "reformer-run"))
    source = fixtures.checkpoint("text-generation", TINY)
    held = to_torchscript(source, tmp_path / "held", verify=False, ops=ops)
    ours = open_runner(held, runtime="cpp-torchscript", threads=1)
    theirs = open_runner(held, runtime="torchscript", threads=1)
    assert isinstance(ours, ShowingRunner)
    assert isinstance(theirs, ShowingRunner)
    for size in ((1, 1), (29, 2)):
        inputs = feeds(*size, vocab_size=258)
        shown, expected = ours.show(inputs), theirs.show(inputs)
        np.testing.assert_array_equal(np.stack(shown.buckets), np.stack(expected.buckets))
        for found in (ours.run(inputs), shown.outputs):
            np.testing.assert_allclose(found["logits"], expected.outputs["logits"], atol=1e-6)
    ours.close()
    report = verify_artifact(held.path, runtime="cpp-torchscript", lengths=[1, 64], batches=[3])
    assert report.passed, json.dumps(report.to_json())
