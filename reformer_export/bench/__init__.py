"""Measurements of speed and memory that others can repeat.

`models.py` compares an artifact with other ways to run its model, each in a separate process;
`generation.py` measures steps of generation; `ops.py` measures only the operators. `make bench`
runs the suite in `benchmarks`. docs/benchmarks.md says what is measured and how.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reformer_export.bench.generation import bench_generation
    from reformer_export.bench.models import bench_artifact
    from reformer_export.bench.ops import bench_ops

__all__ = ["bench_artifact", "bench_generation", "bench_ops"]

# Loaded only when used, because the memory of child processes is measured.
_HOMES = {"bench_artifact": "models", "bench_generation": "generation", "bench_ops": "ops"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
