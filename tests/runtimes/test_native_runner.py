"""One artifact, run by the standard operators in its file and by our kernels."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from reformer_export.artifact import Artifact
from reformer_export.errors import UsageError
from reformer_export.runtimes import ProbingRunner, Runner, open_runner
from reformer_export.runtimes.onnxruntime import OnnxRuntimeRunner
from reformer_ops.core import native
from reformer_ops.core.errors import NativeLibraryError

from ..tools.model_fixtures import CONFIGS, Fixtures, feeds, worst_error

SIZES = ((1, 1), (13, 3), (31, 2), (120, 3))


def opened(artifact: Artifact, ops: native.Choice) -> ProbingRunner:
    runner = open_runner(artifact, ops=ops, threads=1)
    assert isinstance(runner, ProbingRunner)
    return runner


@pytest.mark.parametrize(
    "task",
    [
        "text-generation",
        "feature-extraction",
        *(pytest.param(task, marks=pytest.mark.slow) for task in list(CONFIGS)[2:]),
    ],
)
def test_both_ways_give_the_same_numbers(task: str, fixtures: Fixtures) -> None:
    artifact = fixtures.artifact(task)
    portable, ours = opened(artifact, "portable"), opened(artifact, "native")
    for length, batch in SIZES:
        inputs = feeds(length, batch)
        wanted, found = portable.probe(inputs), ours.probe(inputs)
        assert len(found.buckets) == len(wanted.buckets) > 0
        for a, b in zip(found.buckets, wanted.buckets, strict=True):
            assert np.array_equal(a, b)
        assert worst_error(found.outputs, wanted.outputs) < 1e-5
        assert worst_error(ours.run(inputs), found.outputs) == 0


def test_both_ways_in_half_precision(fixtures: Fixtures) -> None:
    """With the same buckets, because in fp16 a close decision may differ."""
    artifact = fixtures.artifact(dtype="fp16")
    portable, ours = opened(artifact, "portable"), opened(artifact, "native")
    inputs = feeds(120, 3)
    wanted = portable.probe(inputs)
    found = ours.probe(inputs, wanted.buckets)
    assert worst_error(found.outputs, wanted.outputs) < 5e-3


def test_threads_that_do_not_spin_compute_the_same(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact()
    usual, sparing = (
        open_runner(artifact, threads=2, spinning=spinning) for spinning in (True, False)
    )
    assert isinstance(sparing, OnnxRuntimeRunner)
    options = sparing._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    inputs = feeds(120, 3)
    assert worst_error(sparing.run(inputs), usual.run(inputs)) == 0


def test_the_description_tells(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact()
    isa = native.native_status("ort").isa
    assert open_runner(artifact, ops="native").description.endswith(f"native operators ({isa})")
    assert open_runner(artifact).description.endswith(f"native operators ({isa})")
    assert open_runner(artifact, ops="portable").description.endswith("portable operators")


def test_no_library_where_native_is_asked_for(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(NativeLibraryError, match=r"no libreformer_ops_ort\.so"):
        open_runner(fixtures.artifact(), ops="native")


def test_auto_without_a_library_is_portable_and_says_so(
    fixtures: Fixtures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path))
    caplog.set_level(logging.INFO)
    runner: Runner = open_runner(fixtures.artifact())
    assert runner.description.endswith("portable operators")
    assert "ort runs portable operators: there is no" in caplog.text


def test_the_environment_decides_for_auto(
    fixtures: Fixtures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.CHOICE_VARIABLE, "portable")
    assert open_runner(fixtures.artifact()).description.endswith("portable operators")


def test_an_artifact_without_our_operators(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact(ops="portable")
    assert open_runner(artifact).description.endswith("portable operators")
    with pytest.raises(UsageError, match="it was exported with --ops portable"):
        open_runner(artifact, ops="native")


def test_an_artifact_with_operators_of_another_version(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact()
    record = dataclasses.replace(artifact.manifest.ops, versions={"LshBucket": 2})
    manifest = dataclasses.replace(artifact.manifest, ops=record)
    newer = Artifact(artifact.path, manifest)
    assert open_runner(newer).description.endswith("portable operators")
    with pytest.raises(UsageError, match="LshBucket version 2, which this release does not know"):
        open_runner(newer, ops="native")


def test_a_choice_that_is_none(fixtures: Fixtures) -> None:
    with pytest.raises(UsageError, match="unknown operators 'fast': choose one of auto, native"):
        open_runner(fixtures.artifact(), ops="fast")  # type: ignore[arg-type]
