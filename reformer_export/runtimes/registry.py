"""Which runtimes there are, and how an artifact is opened in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.engine import Engine, is_engine
from reformer_export.errors import UsageError
from reformer_export.runtimes.base import Runner
from reformer_ops.native import CHOICES, Choice

_Opener = Callable[[Artifact, int | None, Choice], Runner]


def _onnxruntime(artifact: Artifact, threads: int | None, ops: Choice) -> Runner:
    from reformer_export.runtimes.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(artifact, threads, ops)


RUNTIMES: dict[str, _Opener] = {"onnxruntime": _onnxruntime}
"""Runtime by name, best first: "auto" takes the first."""


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
        UsageError: no such runtime, or an artifact that native operators cannot run.
        NativeLibraryError: `ops` is "native", and the kernels are not there or do not load.
        ArtifactError: the folder is no sound artifact.
        MissingDependencyError: the runtime's package is not installed.
        RuntimeUnavailableError: the runtime does not take the model.
        DeviceUnavailableError: an engine, and no GPU to run it on.
    """
    names = [*RUNTIMES, TENSORRT]
    if runtime not in ("auto", *names):
        raise UsageError(f"unknown runtime {runtime!r}: choose auto or one of {', '.join(names)}")
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
    name = next(iter(RUNTIMES)) if runtime == "auto" else runtime
    return RUNTIMES[name](opened, threads, ops)


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
