"""The table of runtimes, and functions that open an artifact in a runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine, is_engine
from reformer_export.artifact.manifest import AOTI, EXECUTORCH, ONNX, TORCHSCRIPT
from reformer_export.errors import UsageError
from reformer_export.host.device import CPU, CUDA, GRAPH_CHOICES, GraphChoice, parse_device
from reformer_export.host.optional import installed
from reformer_export.runtimes.base import Runner, RunnerOptions
from reformer_ops.core.native import CHOICES, Choice


@dataclass(frozen=True)
class Runtime:
    """A runtime of one format of an artifact.

    Attributes:
        format: the format that the artifact must hold; None if the artifact only names the
            checkpoint to load.
        module: the import name of the required package; None for a program, which "auto" does not
            choose.
        verb: the command that creates the format.
        open: returns the runner of an artifact.
        devices: the kinds of devices that the runtime supports.
    """

    format: str | None
    module: str | None
    verb: str
    open: Callable[[Artifact, RunnerOptions], Runner]
    devices: tuple[str, ...] = (CPU,)


def _onnxruntime(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(artifact, options)


def _openvino(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.openvino import OpenVINORunner

    return OpenVINORunner(artifact, options)


def _aoti(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.aoti import AotiRunner

    return AotiRunner(artifact, options.threads, options.ops)


def _torchscript(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.torchscript import TorchScriptRunner

    return TorchScriptRunner(artifact, options.threads, options.ops)


def _executorch(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.executorch import ExecuTorchRunner

    return ExecuTorchRunner(artifact, options)


def _cpp_onnxruntime(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.cpp_runner import CppRunner

    return CppRunner(artifact, "onnxruntime", ONNX, options)


def _cpp_torchscript(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.cpp_runner import CppRunner

    return CppRunner(artifact, "torchscript", TORCHSCRIPT, options)


def _torch(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.torch import open_original

    return open_original(artifact, options)


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(ONNX, "onnxruntime", "to-onnx", _onnxruntime, (CPU, CUDA)),
    "aoti": Runtime(AOTI, "torch", "to-aoti", _aoti),
    "torchscript": Runtime(TORCHSCRIPT, "torch", "to-torchscript", _torchscript),
    "openvino": Runtime(ONNX, "openvino", "to-onnx", _openvino),
    "executorch": Runtime(EXECUTORCH, "executorch", "to-executorch", _executorch),
    "torch": Runtime(None, "torch", "", _torch, (CPU, CUDA)),
    "cpp-onnxruntime": Runtime(ONNX, None, "to-onnx", _cpp_onnxruntime, (CPU, CUDA)),
    "cpp-torchscript": Runtime(TORCHSCRIPT, None, "to-torchscript", _cpp_torchscript),
}
"""Runtimes by name, best first: "auto" chooses the first one that is installed and runs a format of
the artifact. "torch" is the original model, loaded from the checkpoint that the manifest names. A
"cpp-" runtime starts the program `reformer-run` for each call."""


TENSORRT = "tensorrt"
"""The runtime of TensorRT engines. An engine is a folder, but not an artifact."""


def open_runner(
    artifact: str | Path | Artifact | Engine,
    *,
    runtime: str = "auto",
    threads: int | None = None,
    ops: Choice = "auto",
    device: str = CPU,
    cuda_graph: GraphChoice = "auto",
    spinning: bool = True,
) -> Runner:
    """Open an artifact, or a TensorRT engine, for inference.

    Args:
        artifact: the folder, or an artifact or engine that is already open.
        runtime: a name of `RUNTIMES`, or "auto"; an engine runs in "tensorrt".
        threads: the maximum number of threads; if None, the runtime chooses.
        ops: "native" runs the operators with our kernels, "portable" with their standard bodies.
            "auto" follows REFORMER_OPS; if that is not set, it uses our kernels if they are
            installed. On a GPU "auto" is "native": standard bodies take many times as long there,
            so they must be requested explicitly.
        device: "cpu", "cuda" or "cuda:N". Engines run on the first GPU.
        cuda_graph: on a GPU, "auto" captures runs as CUDA graphs when a shape is repeated; "off"
            captures none.
        spinning: threads that wait for the next operator keep their core busy, which is faster
            unless other processes need the cores. Only ONNX Runtime can be told not to.

    Raises:
        UsageError: the runtime or the device is unknown, the artifact does not hold the runtime's
            format, or the artifact cannot run there with these operators.
        NativeLibraryError: `ops` is "native", and the kernels are missing or do not load.
        ArtifactError: the folder is not a valid artifact.
        MissingDependencyError: the runtime's package is not installed.
        RuntimeUnavailableError: the runtime cannot run the model.
        DeviceUnavailableError: there is no such GPU, or no GPU for the engine.
    """
    if runtime not in ("auto", TENSORRT):
        _check_name(runtime)
    if ops not in CHOICES:
        raise UsageError(f"unknown operators {ops!r}: choose one of {', '.join(CHOICES)}")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: at least one thread is needed")
    if cuda_graph not in GRAPH_CHOICES:
        choices = ", ".join(GRAPH_CHOICES)
        raise UsageError(f"unknown choice of CUDA graphs {cuda_graph!r}: choose one of {choices}")
    place = parse_device(device)
    opened = open_folder(artifact)
    if isinstance(opened, Engine):
        return _tensorrt(opened, runtime)
    if runtime == TENSORRT:
        raise UsageError(
            f"{opened.path} is an artifact, and TensorRT runs engines: build one with "
            "reformer-export to-tensorrt"
        )
    name = best_runtime(opened) if runtime == "auto" else runtime
    check_runtime(opened, name)
    if place.kind not in RUNTIMES[name].devices:
        able = [other for other, entry in RUNTIMES.items() if place.kind in entry.devices]
        raise UsageError(
            f"{name} does not run on {place}: choose one of {', '.join(able)}, or another device"
        )
    options = RunnerOptions(threads, ops, place, cuda_graph, spinning)
    return RUNTIMES[name].open(opened, options)


def check_runtime(artifact: Artifact, name: str) -> None:
    """Raise UsageError if the runtime is unknown or the artifact does not hold its format."""
    _check_name(name)
    runtime = RUNTIMES[name]
    if runtime.format is not None and runtime.format not in artifact.formats:
        raise UsageError(
            f"{artifact.path} holds no {runtime.format}, but {' and '.join(artifact.formats)}: "
            f"choose another runtime, or add it with reformer-export {runtime.verb}"
        )


def _check_name(name: str) -> None:
    if name not in RUNTIMES:
        names = ", ".join([*RUNTIMES, TENSORRT])
        raise UsageError(f"unknown runtime {name!r}: choose auto or one of {names}")


def best_runtime(artifact: Artifact) -> str:
    """The first installed runtime that can run the artifact.

    If none is installed, the first one that could run it: the error when it is opened says what to
    install.
    """
    possible = {
        name: runtime.module
        for name, runtime in RUNTIMES.items()
        if runtime.format in artifact.formats and runtime.module is not None
    }
    usable = [name for name, module in possible.items() if installed(module)]
    return (usable or list(possible) or list(RUNTIMES))[0]


def open_folder(path: str | Path | Artifact | Engine) -> Artifact | Engine:
    """Open and check the artifact or engine in a folder; ArtifactError if it is neither."""
    if isinstance(path, (Artifact, Engine)):
        return path
    return Engine.open(path) if is_engine(path) else Artifact.open(path)


def _tensorrt(engine: Engine, runtime: str) -> Runner:
    if runtime not in ("auto", TENSORRT):
        raise UsageError(f"{engine.path} is a TensorRT engine: {runtime} runs artifacts only")
    from reformer_export.runtimes.tensorrt import TensorRTRunner

    return TensorRTRunner(engine)
