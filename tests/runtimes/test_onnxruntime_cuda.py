"""The parts of the runner for GPUs that can be tested without a GPU.

Buffers are in CPU memory here, which ONNX Runtime treats in the same way. A GPU would replay a
captured graph; here the model runs again.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from reformer_export import to_torchscript
from reformer_export.errors import RuntimeUnavailableError, UsageError
from reformer_export.host.device import Device, parse_device
from reformer_export.runtimes import open_runner
from reformer_export.runtimes.cuda_graphs import MOST_GRAPHS, TURNS
from reformer_export.runtimes.onnxruntime_cuda import PROVIDER, DeviceSession, provider_options

from ..tools.model_fixtures import Fixtures, feeds

CPU = Device("cpu")


@pytest.fixture
def plain(fixtures: Fixtures) -> Any:
    return onnxruntime.InferenceSession(fixtures.artifact().format_path("onnx"))


@pytest.fixture
def session(fixtures: Fixtures, plain: Any) -> DeviceSession:
    return DeviceSession(plain, onnxruntime, fixtures.artifact().signature, CPU, graphs=True)


def test_a_shape_is_captured_when_it_comes_again(session: DeviceSession, plain: Any) -> None:
    for seed, expected in enumerate(((), ((2, 9),), ((2, 9),))):
        inputs = feeds(9, 2, seed=seed)
        (found,) = session.run(["logits"], inputs)
        np.testing.assert_array_equal(found, plain.run(["logits"], inputs)[0])
        assert session.captured == expected


def test_no_more_shapes_are_captured_than_documented(session: DeviceSession, plain: Any) -> None:
    for length in range(1, MOST_GRAPHS + 4):
        for seed in range(3):
            inputs = feeds(length, seed=seed)
            (found,) = session.run(["logits"], inputs)
            np.testing.assert_array_equal(found, plain.run(["logits"], inputs)[0])
    assert session.captured == tuple((1, length) for length in range(1, MOST_GRAPHS + 1))


def test_nothing_is_captured_where_nobody_wants_it(fixtures: Fixtures, plain: Any) -> None:
    signature = fixtures.artifact().signature
    session = DeviceSession(plain, onnxruntime, signature, CPU, graphs=False)
    for _ in range(3):
        session.run(["logits"], feeds(5))
    session.prepare(feeds(5)).run()
    assert session.captured == ()


def test_prepared_inputs_run_again_and_again(session: DeviceSession, plain: Any) -> None:
    first, second = feeds(7, 2, seed=1), feeds(7, 2, seed=2)
    prepared = session.prepare(first)
    for inputs in (first, second, first):
        prepared.feed(inputs)
        prepared.run()
        found = prepared.fetch()
        np.testing.assert_array_equal(found["logits"], plain.run(["logits"], inputs)[0])


def test_nothing_runs_beside_a_capture() -> None:
    """Runs may overlap; a capture waits for them, and later runs wait for the capture."""
    reported: list[str] = []
    inside, leave = threading.Barrier(3), threading.Event()

    def run() -> None:
        with TURNS.running():
            inside.wait(10)
            leave.wait(10)
            reported.append("run")

    def capture() -> None:
        with TURNS.capturing():
            reported.append("captured")

    def late() -> None:
        with TURNS.running():
            reported.append("late")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)  # both run at once
    for work in (capture, late):
        threads.append(threading.Thread(target=work))
        threads[-1].start()
        while work is capture and not TURNS._capturing:
            time.sleep(0.001)
    time.sleep(0.05)
    assert reported == []
    leave.set()
    for thread in threads:
        thread.join(10)
    assert reported == ["run", "run", "captured", "late"]


def test_the_providers_options_keep_the_numbers() -> None:
    options = provider_options(Device("cuda", 2), graphs=True)
    assert options["device_id"] == "2"
    assert options["use_tf32"] == "0"
    assert options["enable_cuda_graph"] == "1"
    assert provider_options(Device("cuda"), graphs=False)["enable_cuda_graph"] == "0"


@pytest.mark.skipif(
    PROVIDER in onnxruntime.get_available_providers(), reason="this onnxruntime is one for GPUs"
)
def test_an_onnxruntime_for_cpus_says_what_to_install(fixtures: Fixtures) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"pip install .*onnxruntime-gpu"):
        open_runner(fixtures.artifact(), device="cuda")


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "cpu:0", "cuda:x", ""])
def test_devices_that_are_none(fixtures: Fixtures, text: str) -> None:
    with pytest.raises(UsageError, match="it is cpu, cuda, or cuda:N"):
        open_runner(fixtures.artifact(), device=text)


def test_devices() -> None:
    assert parse_device("cuda") == parse_device("cuda:0") == Device("cuda", 0)
    assert str(parse_device("cuda:3")) == "cuda:3"
    assert str(parse_device("cpu")) == "cpu"


def test_a_runtime_that_is_for_cpus(fixtures: Fixtures, tmp_path: Path) -> None:
    to_torchscript(fixtures.checkpoint(), tmp_path / "scripted", verify=False)
    with pytest.raises(UsageError, match="torchscript does not run on cuda:0: choose one of onnx"):
        open_runner(tmp_path / "scripted", runtime="torchscript", device="cuda")


def test_a_choice_of_graphs_that_is_none(fixtures: Fixtures) -> None:
    with pytest.raises(UsageError, match="unknown choice of CUDA graphs 'on'"):
        open_runner(fixtures.artifact(), cuda_graph="on")  # type: ignore[arg-type]


def test_prepare_is_for_gpus(fixtures: Fixtures) -> None:
    runner: Any = open_runner(fixtures.artifact(), threads=1)
    with pytest.raises(UsageError, match="this runner is on the CPU"):
        runner.prepare(feeds(3))
