"""A check of runtimes that have no kernels of ours."""

from __future__ import annotations

from reformer_export.artifact import Artifact
from reformer_export.errors import UsageError
from reformer_ops.core.native import Choice, requested


def check_portable(name: str, artifact: Artifact, ops: Choice) -> None:
    """Raise UsageError if native operators are requested of the runtime `name`."""
    if "native" in (ops, requested() if ops == "auto" else None):
        raise UsageError(
            f"{name} cannot run {artifact.path} with the native operators: our kernels are for "
            "ONNX Runtime and torch; choose --ops portable"
        )
