"""The Reformer's operators, each declared once and implemented for every backend.

Each operator has a folder: the fp64 NumPy reference that defines the results, the torch operator,
the ONNX function body, and the cases on which every backend is tested; custom_ops/README.md lists
all files. Importing this package is fast: only the modules that need torch or onnx load them
(`reformer_ops.torch_ops` registers the torch operators).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reformer_ops.core.native import NativeStatus, library_path, native_status, session_options

__all__ = ["NativeStatus", "library_path", "native_status", "session_options"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.core.native"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
