"""The process of a contender: its answers, and every kind of failure."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reformer_export.bench.contenders import Request
from reformer_export.bench.process import Contender, ContenderFailure, DoesNotFit

from ..tools.artifact_fixtures import make_artifact

PATIENCE = 120.0


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("bench") / "artifact")


@pytest.fixture
def contender(artifact: Path) -> Iterator[Contender]:
    with Contender(Request("portable", 1, str(artifact), length=8)) as contender:
        yield contender


def test_it_opens_runs_and_says_what_it_took(contender: Contender) -> None:
    contender.open(PATIENCE)
    contender.warm_up(PATIENCE)
    assert contender.run(PATIENCE)["seconds"] > 0
    assert contender.description.startswith("onnxruntime ")
    assert contender.open_seconds is not None
    assert contender.warm_up_seconds is not None
    assert contender.open_rss is not None
    assert 10e6 < contender.open_rss <= contender.peak_rss() < 2e9
    contender.close()
    assert contender.peak_rss() >= contender.open_rss, "it is remembered after the end"


def test_torch_is_not_in_the_process_of_the_artifact(contender: Contender) -> None:
    contender.open(PATIENCE)
    maps = Path(f"/proc/{contender.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "libtorch" not in maps


def test_what_it_says_about_a_failure_is_the_reason(artifact: Path) -> None:
    with (
        Contender(Request("portable", 1, f"{artifact}-gone", length=8)) as contender,
        pytest.raises(ContenderFailure, match="there is no artifact at"),
    ):
        contender.open(PATIENCE)


def test_a_checkpoint_that_is_gone_is_asked_for(artifact: Path) -> None:
    with (
        Contender(Request("hf", 1, str(artifact), str(artifact / "gone"), 8)) as contender,
        pytest.raises(ContenderFailure, match="gone"),
    ):
        contender.open(PATIENCE)


def test_one_that_needs_more_memory_than_there_is_does_not_fit() -> None:
    with (
        Contender(Request("gemm", 1, memory=100 * 2**20)) as contender,
        pytest.raises(DoesNotFit, match="needs more memory than is free"),
    ):
        contender.open(PATIENCE)


def test_one_that_is_killed_ran_out_of_memory(contender: Contender) -> None:
    contender.open(PATIENCE)
    os.kill(contender.pid, signal.SIGKILL)
    with pytest.raises(DoesNotFit, match="killed by the system"):
        contender.run(PATIENCE)


def test_a_crash_is_told(contender: Contender) -> None:
    contender.open(PATIENCE)
    os.kill(contender.pid, signal.SIGSEGV)
    with pytest.raises(ContenderFailure, match=f"crashed with signal {int(signal.SIGSEGV)}"):
        contender.run(PATIENCE)


def test_waiting_ends(contender: Contender) -> None:
    with pytest.raises(ContenderFailure, match="gave no answer in 0 s"):
        contender.open(0.01)


def test_closing_ends_the_process(contender: Contender) -> None:
    contender.open(PATIENCE)
    contender.close()
    assert not Path(f"/proc/{contender.pid}").exists()
