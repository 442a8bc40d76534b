"""Which runtimes there are, and how an artifact is opened in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine, is_engine
from reformer_export.artifact.manifest import AOTI, ONNX, TORCHSCRIPT
from reformer_export.errors import UsageError
from reformer_export.host.device import CPU, CUDA, GRAPH_CHOICES, GraphChoice, parse_device
from reformer_export.host.optional import installed
from reformer_export.runtimes.base import Runner, RunnerOptions
from reformer_ops.core.native import CHOICES, Choice


@dataclass(frozen=True)
class Runtime:
    """What runs one format of an artifact.

    Attributes:
        format: what the artifact must hold; None if it only says which checkpoint to load.
        module: what must be installed, as it is imported; None if it is a program, which "auto"
            leaves alone.
        verb: what makes the format.
        open: the runner of an artifact.
        devices: kinds of devices that it runs on.
    """

    format: str | None
    module: str | None
    verb: str
    open: Callable[[Artifact, RunnerOptions], Runner]
    devices: tuple[str, ...] = (CPU,)


def _onnxruntime(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(artifact, options)


def _aoti(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.aoti import AotiRunner

    return AotiRunner(artifact, options.threads, options.ops)


def _torchscript(artifact: Artifact, options: RunnerOptions) -> Runner:
    from reformer_export.runtimes.torchscript import TorchScriptRunner

    return TorchScriptRunner(artifact, options.threads, options.ops)


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
    "torch": Runtime(None, "torch", "", _torch, (CPU, CUDA)),
    "cpp-onnxruntime": Runtime(ONNX, None, "to-onnx", _cpp_onnxruntime, (CPU, CUDA)),
    "cpp-torchscript": Runtime(TORCHSCRIPT, None, "to-torchscript", _cpp_torchscript),
}
"""Runtime by name, best first: "auto" takes the first that is installed and that runs a format of
the artifact. "torch" is the model itself, from the checkpoint that the manifest names. Those of
"cpp-" run in `reformer-run`, a process for each call."""


TENSORRT = "tensorrt"
"""The runtime of engines, which are folders of another kind."""


def open_runner(
    artifact: str | Path | Artifact | Engine,
    *,
    runtime: str = "auto",
    threads: int | None = None,
    ops: Choice = "auto",
    device: str = CPU,
    cuda_graph: GraphChoice = "auto",
) -> Runner:
    """Open an artifact, or a TensorRT engine, for inference.

    Args:
        artifact: the folder, or what has been opened of it.
        runtime: a name of `RUNTIMES`, or "auto"; an engine runs in "tensorrt".
        threads: at most this many; the runtime's own choice when left out.
        ops: "native" runs the operators by our kernels, "portable" by their standard bodies;
            "auto" does what REFORMER_OPS says, else what is installed. On a GPU "auto" is "native":
            standard bodies take many times as long there, and must be asked for.
        device: "cpu", "cuda" or "cuda:N". Engines run on the first GPU.
        cuda_graph: on a GPU, "auto" captures the runs of shapes that come again as CUDA graphs,
            "off" captures none.

    Raises:
        UsageError: no such runtime or device, an artifact that does not hold its format, or one
            that such operators cannot run there.
        NativeLibraryError: `ops` is "native", and the kernels are not there or do not load.
        ArtifactError: the folder is no sound artifact.
        MissingDependencyError: the runtime's package is not installed.
        RuntimeUnavailableError: the runtime does not take the model.
        DeviceUnavailableError: there is no such GPU, or none to run an engine on.
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
    return RUNTIMES[name].open(opened, RunnerOptions(threads, ops, place, cuda_graph))


def check_runtime(artifact: Artifact, name: str) -> None:
    """UsageError unless there is such a runtime, and the artifact holds its format."""
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
    """The first runtime that is installed of those that can run the artifact.

    Where none is, the first of them: opening it will say what to install.
    """
    possible = {
        name: runtime.module
        for name, runtime in RUNTIMES.items()
        if runtime.format in artifact.formats and runtime.module is not None
    }
    usable = [name for name, module in possible.items() if installed(module)]
    return (usable or list(possible) or list(RUNTIMES))[0]


def open_folder(path: str | Path | Artifact | Engine) -> Artifact | Engine:
    """Open what is in a folder, with all its checks; ArtifactError if it is neither."""
    if isinstance(path, (Artifact, Engine)):
        return path
    return Engine.open(path) if is_engine(path) else Artifact.open(path)


def _tensorrt(engine: Engine, runtime: str) -> Runner:
    if runtime not in ("auto", TENSORRT):
        raise UsageError(f"{engine.path} is a TensorRT engine: {runtime} runs artifacts only")
    from reformer_export.runtimes.tensorrt import TensorRTRunner

    return TensorRTRunner(engine)
