"""Exports Reformer checkpoints to verified artifacts.

Importing this package is cheap: torch, onnx and the runtimes load when a name that needs them is
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reformer_export.artifact import Artifact
    from reformer_export.artifact.engine import Engine
    from reformer_export.exporters.checkpoint import import_checkpoint
    from reformer_export.exporters.cuda.export import add_cuda_kernels
    from reformer_export.exporters.onnx.export import to_onnx
    from reformer_export.exporters.tensorrt.export import to_tensorrt
    from reformer_export.exporters.torch.aoti import to_aoti
    from reformer_export.exporters.torch.executorch import to_executorch
    from reformer_export.exporters.torch.torchscript import to_torchscript
    from reformer_export.exporters.web.export import to_web
    from reformer_export.generation.generator import open_generator
    from reformer_export.runtimes import open_runner
    from reformer_export.verification.parity import verify_artifact

    __version__: str

__all__ = [
    "Artifact",
    "Engine",
    "__version__",
    "add_cuda_kernels",
    "import_checkpoint",
    "open_generator",
    "open_runner",
    "to_aoti",
    "to_executorch",
    "to_onnx",
    "to_tensorrt",
    "to_torchscript",
    "to_web",
    "verify_artifact",
]

_HOMES = {
    "Artifact": "artifact",
    "Engine": "artifact.engine",
    "add_cuda_kernels": "exporters.cuda.export",
    "import_checkpoint": "exporters.checkpoint",
    "open_generator": "generation.generator",
    "open_runner": "runtimes",
    "to_tensorrt": "exporters.tensorrt.export",
    "to_web": "exporters.web.export",
    "verify_artifact": "verification.parity",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        from reformer_export.exporters.registry import FORMATS

        modules = {entry.function: entry.module for entry in FORMATS.values()}
        if name not in modules:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The version of the installed distribution; a checkout that is not installed has none."""
    from reformer_export.host.optional import installed_version

    return installed_version("reformer-export") or "0+not-installed"
