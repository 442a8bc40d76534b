"""Which runtimes there are, and how an artifact is opened in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.errors import UsageError
from reformer_export.runtimes.base import Runner
from reformer_ops.native import CHOICES, Choice

_Opener = Callable[[Artifact, int | None, Choice], Runner]


def _onnxruntime(artifact: Artifact, threads: int | None, ops: Choice) -> Runner:
    from reformer_export.runtimes.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(artifact, threads, ops)


RUNTIMES: dict[str, _Opener] = {"onnxruntime": _onnxruntime}
"""Runtime by name, best first: "auto" takes the first."""


def open_runner(
    artifact: str | Path | Artifact,
    *,
    runtime: str = "auto",
    threads: int | None = None,
    ops: Choice = "auto",
) -> Runner:
    """Open an artifact for inference.

    Args:
        artifact: the folder, or an artifact already opened.
        runtime: a name of `RUNTIMES`, or "auto".
        threads: at most this many; the runtime's own choice when left out.
        ops: "native" runs the operators by our kernels, "portable" by their standard bodies;
            "auto" does what REFORMER_OPS says, else what is installed.

    Raises:
        UsageError: no such runtime, or an artifact that native operators cannot run.
        NativeLibraryError: `ops` is "native", and the kernels are not there or do not load.
        ArtifactError: the folder is no sound artifact.
        MissingDependencyError: the runtime's package is not installed.
        RuntimeUnavailableError: the runtime does not take the model.
    """
    if runtime != "auto" and runtime not in RUNTIMES:
        raise UsageError(
            f"unknown runtime {runtime!r}: choose auto or one of {', '.join(RUNTIMES)}"
        )
    if ops not in CHOICES:
        raise UsageError(f"unknown operators {ops!r}: choose one of {', '.join(CHOICES)}")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: at least one thread is needed")
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    name = next(iter(RUNTIMES)) if runtime == "auto" else runtime
    return RUNTIMES[name](opened, threads, ops)
