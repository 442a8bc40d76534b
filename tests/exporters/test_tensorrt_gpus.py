"""Engines and GPUs: errors if there is no GPU, or if TensorRT-RTX does not support the GPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reformer_export import to_tensorrt
from reformer_export.artifact.engine import Engine
from reformer_export.errors import DeviceUnavailableError, InferenceError, UsageError
from reformer_export.exporters.tensorrt import engine as tensorrt
from reformer_export.exporters.tensorrt.builder import EngineBuilder
from reformer_export.host import gpu
from reformer_export.host.tensorrt_library import FLAVORS, load_library
from reformer_export.runtimes import open_runner
from reformer_export.runtimes.cuda_memory import BindingsMemory

from ..tools.model_fixtures import Fixtures

TASK = "fill-mask"  # it has the smallest model

no_gpu = pytest.mark.skipif(
    bool(gpu.find_gpus()[0]), reason="this test needs a machine without a GPU"
)


@pytest.fixture(scope="module")
def engine(fixtures: Fixtures) -> Engine:
    return fixtures.engine(TASK, dtype="fp16")


@no_gpu
def test_running_needs_a_gpu(engine: Engine) -> None:
    with pytest.raises(DeviceUnavailableError) as caught:
        open_runner(engine.path)
    assert str(caught.value) == (
        f"running {engine.path}, a TensorRT-RTX engine, needs an NVIDIA GPU, and "
        f"{gpu.find_gpus()[1]}"
    )


@no_gpu
def test_memory_on_a_gpu_that_is_not_there() -> None:
    """cuda-bindings is installed; its first call fails, and the error names this call."""
    with pytest.raises(InferenceError, match="cudaStreamCreate failed with"):
        BindingsMemory()


@no_gpu
def test_standard_tensorrt_needs_a_gpu_to_build() -> None:
    """Tests only the check before the library's own builder is created."""
    library = dataclasses.replace(load_library("rtx", purpose="a test"), flavor=FLAVORS["standard"])
    with pytest.raises(DeviceUnavailableError, match="or with --flavor rtx, which builds without"):
        EngineBuilder(library)


def test_a_gpu_that_rtx_does_not_know(
    fixtures: Fixtures, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error comes before anything is loaded or built. An H200 has compute capability 9.0."""
    there = gpu.Gpu("NVIDIA H200", 90)
    monkeypatch.setattr(gpu, "find_gpus", lambda: ([there], ""))
    monkeypatch.setattr(tensorrt, "find_gpus", lambda: ([there], ""))
    said = r"knows sm75, .*sm121, and this GPU is the NVIDIA H200 \(SM90\): run the"
    with pytest.raises(DeviceUnavailableError, match=said):
        open_runner(engine)
    with pytest.raises(UsageError, match=said):
        to_tensorrt(fixtures.artifact(TASK).path, tmp_path / "engine", flavor="rtx")
    assert not list(tmp_path.iterdir())
    options = tensorrt.TensorRTOptions(flavor="rtx", targets=("sm89",))
    assert tensorrt.plan_engine(fixtures.artifact(TASK), options).build.targets == ("sm89",)
