"""Describes the machine on which figures are measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from reformer_export.host import memory
from reformer_export.host.optional import installed_versions

_PACKAGES = ("reformer-export", "onnxruntime", "torch", "transformers", "numpy")


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and versions of the relevant packages."""
    return {
        "cpu": _cpu(),
        "cores": usable_cores(),
        "memory_bytes": memory.total(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": installed_versions(*_PACKAGES),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = [line.partition(":") for line in lines]
    names = [value.strip() for key, _, value in fields if key.strip() == "model name"]
    return names[0] if names else platform.processor() or "unknown"
