"""Which runtimes there are, and how an artifact is opened in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.errors import UsageError
from reformer_export.runtimes.base import Runner

_Opener = Callable[[Artifact, int | None], Runner]


def _onnxruntime(artifact: Artifact, threads: int | None) -> Runner:
    from reformer_export.runtimes.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(artifact, threads)


RUNTIMES: dict[str, _Opener] = {"onnxruntime": _onnxruntime}
"""Runtime by name, best first: "auto" takes the first."""


def open_runner(
    artifact: str | Path | Artifact, *, runtime: str = "auto", threads: int | None = None
) -> Runner:
    """Open an artifact for inference.

    Args:
        artifact: the folder, or an artifact already opened.
        runtime: a name of `RUNTIMES`, or "auto".
        threads: at most this many; the runtime's own choice when left out.

    Raises:
        UsageError: no such runtime.
        ArtifactError: the folder is no sound artifact.
        MissingDependencyError: the runtime's package is not installed.
        RuntimeUnavailableError: the runtime does not take the model.
    """
    if runtime != "auto" and runtime not in RUNTIMES:
        raise UsageError(
            f"unknown runtime {runtime!r}: choose auto or one of {', '.join(RUNTIMES)}"
        )
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: at least one thread is needed")
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    name = next(iter(RUNTIMES)) if runtime == "auto" else runtime
    return RUNTIMES[name](opened, threads)
