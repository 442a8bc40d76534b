"""Which runtimes there are, and how an artifact is opened in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.engine import Engine, is_engine
from reformer_export.errors import UsageError
from reformer_export.manifest import AOTI, ONNX, TORCHSCRIPT
from reformer_export.optional import installed
from reformer_export.runtimes.base import Runner
from reformer_ops.native import CHOICES, Choice


@dataclass(frozen=True)
class Runtime:
    """What runs one format of an artifact.

    Attributes:
        format: what the artifact must hold; None where it only says which checkpoint to load.
        module: what must be installed, as it is imported; None where it is a program, which "auto"
            leaves alone.
        verb: what makes the format.
        open: with the artifact, the number of threads, and which operators shall run.
    """

    format: str | None
    module: str | None
    verb: str
    open: Callable[[Artifact, int | None, Choice], Runner]


def _onnxruntime(artifact: Artifact, threads: int | None, ops: Choice) -> Runner:
    from reformer_export.runtimes.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(artifact, threads, ops)


def _aoti(artifact: Artifact, threads: int | None, ops: Choice) -> Runner:
    from reformer_export.runtimes.aoti import AotiRunner

    return AotiRunner(artifact, threads, ops)


def _torchscript(artifact: Artifact, threads: int | None, ops: Choice) -> Runner:
    from reformer_export.runtimes.torchscript import TorchScriptRunner

    return TorchScriptRunner(artifact, threads, ops)


def _cpp_onnxruntime(artifact: Artifact, threads: int | None, ops: Choice) -> Runner:
    from reformer_export.runtimes.cpp_runner import CppRunner

    return CppRunner(artifact, "onnxruntime", ONNX, threads, ops)


def _cpp_torchscript(artifact: Artifact, threads: int | None, ops: Choice) -> Runner:
    from reformer_export.runtimes.cpp_runner import CppRunner

    return CppRunner(artifact, "torchscript", TORCHSCRIPT, threads, ops)


def _torch(artifact: Artifact, threads: int | None, ops: Choice) -> Runner:
    from reformer_export.runtimes.torch import open_original

    return open_original(artifact, threads, ops)


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(ONNX, "onnxruntime", "to-onnx", _onnxruntime),
    "aoti": Runtime(AOTI, "torch", "to-aoti", _aoti),
    "torchscript": Runtime(TORCHSCRIPT, "torch", "to-torchscript", _torchscript),
    "torch": Runtime(None, "torch", "", _torch),
    "cpp-onnxruntime": Runtime(ONNX, None, "to-onnx", _cpp_onnxruntime),
    "cpp-torchscript": Runtime(TORCHSCRIPT, None, "to-torchscript", _cpp_torchscript),
}
"""Runtime by name, best first: "auto" takes the first that is installed of those whose format the
artifact holds. "torch" is the model itself, from the checkpoint that the manifest names. Those of
"cpp-" run in `reformer-run`, a process for each call."""


TENSORRT = "tensorrt"
"""The runtime of engines, which are folders of another kind."""


def open_runner(
    artifact: str | Path | Artifact | Engine,
    *,
    runtime: str = "auto",
    threads: int | None = None,
    ops: Choice = "auto",
) -> Runner:
    """Open an artifact, or a TensorRT engine, for inference.

    Args:
        artifact: the folder, or what has been opened of it.
        runtime: a name of `RUNTIMES`, or "auto"; an engine runs in "tensorrt".
        threads: at most this many; the runtime's own choice when left out.
        ops: "native" runs the operators by our kernels, "portable" by their standard bodies;
            "auto" does what REFORMER_OPS says, else what is installed.

    Raises:
        UsageError: no such runtime, an artifact that does not hold its format, or one that such
            operators cannot run.
        NativeLibraryError: `ops` is "native", and the kernels are not there or do not load.
        ArtifactError: the folder is no sound artifact.
        MissingDependencyError: the runtime's package is not installed.
        RuntimeUnavailableError: the runtime does not take the model.
        DeviceUnavailableError: an engine, and no GPU to run it on.
    """
    if runtime not in ("auto", TENSORRT):
        _check_name(runtime)
    if ops not in CHOICES:
        raise UsageError(f"unknown operators {ops!r}: choose one of {', '.join(CHOICES)}")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: at least one thread is needed")
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
    return RUNTIMES[name].open(opened, threads, ops)


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
    """Open what is in a folder, with all its checks; ArtifactError where it is neither."""
    if isinstance(path, (Artifact, Engine)):
        return path
    return Engine.open(path) if is_engine(path) else Artifact.open(path)


def _tensorrt(engine: Engine, runtime: str) -> Runner:
    if runtime not in ("auto", TENSORRT):
        raise UsageError(f"{engine.path} is a TensorRT engine: {runtime} runs artifacts only")
    from reformer_export.runtimes.tensorrt import TensorRTRunner

    return TensorRTRunner(engine)
