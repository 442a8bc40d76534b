"""The machine that this check runs on."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from reformer_export.host.gpu import find_gpus

PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "transformers",
    "tensorrt",
)
_ALSO_IN = {"onnxruntime": "onnxruntime-gpu"}
"""Other names of the same packages."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU; `reason` says why there is none."""

    name: str
    capability: int
    reason: str

    @property
    def there(self) -> bool:
        """True if there is a GPU."""
        return not self.reason


def find_gpu() -> Gpu:
    """The first GPU, as the driver reports it, without any framework."""
    gpus, reason = find_gpus()
    if not gpus:
        return Gpu("none", 0, reason)
    return Gpu(gpus[0].name, gpus[0].capability, "")


def usable_cores() -> int:
    """The number of CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(gpu: Gpu, commit: str | None = None) -> dict[str, str]:
    """Date, GPU, driver and versions, as labels and texts."""
    text = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "GPU": f"{gpu.name} (sm_{gpu.capability})" if gpu.there else f"none: {gpu.reason}",
    }
    if gpu.there:
        text |= _asked_of_the_driver()
    text["CPU"] = f"{usable_cores()} cores, {platform.machine()}"
    text["python"] = platform.python_version()
    text |= {name: version for name in PACKAGES if (version := _version(name))}
    if commit:
        text["commit"] = commit
    return text


def _asked_of_the_driver() -> dict[str, str]:
    """The driver's release and the GPU's memory; empty if nvidia-smi is missing or fails."""
    query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    driver, _, memory = done.stdout.splitlines()[0].partition(", ")
    return {"driver": driver, "GPU memory": memory}


def loaded_versions() -> dict[str, str]:
    """Versions of those packages that this process has imported."""
    modules = {name: sys.modules.get(name.replace("-", "_")) for name in PACKAGES}
    found = {name: getattr(module, "__version__", None) for name, module in modules.items()}
    return {name: str(version) for name, version in found.items() if version is not None}


def _version(package: str) -> str | None:
    for name in (package, _ALSO_IN.get(package)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            if name is not None:
                return metadata.version(name)
    return None
