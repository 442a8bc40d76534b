"""Loads one of the two TensorRT libraries, which share an API, and handles its log."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from reformer_export.errors import DeviceUnavailableError, MissingDependencyError, UsageError
from reformer_export.host.gpu import Gpu
from reformer_export.host.optional import installed_version, require

Log = Callable[[str], None]


@dataclass(frozen=True)
class Flavor:
    """One of the libraries: `name` is the value of --flavor, `title` is the vendor's name for the
    library.

    `oldest` is the first release with all functions that are used here.
    """

    name: str
    title: str
    package: str
    module: str
    oldest: tuple[int, int]


FLAVORS = {
    flavor.name: flavor
    for flavor in (
        Flavor("rtx", "TensorRT-RTX", "tensorrt-rtx", "tensorrt_rtx", (1, 2)),
        Flavor("standard", "TensorRT", "tensorrt", "tensorrt", (10, 9)),
    )
}
"""The flavours by name. "auto" prefers the first one, because it builds without a GPU."""


@dataclass(frozen=True)
class Library:
    """An imported TensorRT library."""

    flavor: Flavor
    trt: ModuleType

    @property
    def version(self) -> str:
        """Its version, "1.7.1.116"."""
        return str(self.trt.__version__)

    def __str__(self) -> str:
        return f"{self.flavor.title} {self.version}"


def load_library(flavor: str, *, purpose: str) -> Library:
    """Import a flavour; "auto" is the first of `FLAVORS` that is installed.

    Raises:
        UsageError: there is no such flavour.
        MissingDependencyError: the library is not installed, does not load, or is too old.
    """
    if flavor == "auto":
        names = [name for name, item in FLAVORS.items() if installed_version(item.package)]
        flavor = names[0] if names else next(iter(FLAVORS))
    if flavor not in FLAVORS:
        raise UsageError(f"unknown flavor {flavor!r}: choose auto or one of {', '.join(FLAVORS)}")
    chosen = FLAVORS[flavor]
    trt = require(chosen.module, purpose=purpose, package=chosen.package)
    library = Library(chosen, trt)
    if _release(library.version) < chosen.oldest:
        oldest = ".".join(map(str, chosen.oldest))
        raise MissingDependencyError(
            f"{purpose} needs {chosen.title} {oldest} or later, found {library.version}: "
            f"pip install --upgrade {chosen.package}"
        )
    return library


def check_gpu(library: Library, gpu: Gpu) -> None:
    """Raises DeviceUnavailableError if the library does not support this GPU.

    TensorRT-RTX supports only the GPU generations that are sold as RTX. On other GPUs it also
    builds engines, but then refuses to load them.
    """
    known = known_targets(library)
    generations = {int(name[2:]) // 10 for name in known}
    if known and gpu.capability // 10 not in generations:
        raise DeviceUnavailableError(
            f"{library} knows {', '.join(known)}, and this GPU is the {gpu}: run the artifact in "
            "ONNX Runtime with --device cuda, or use the standard TensorRT"
        )


def known_targets(library: Library) -> dict[str, Any]:
    """The GPU targets that a library can build for ahead of time, by name ("sm80")."""
    capabilities = getattr(library.trt, "ComputeCapability", None)
    members = {} if capabilities is None else capabilities.__members__
    return {name.lower(): value for name, value in members.items() if name.startswith("SM")}


def make_logger(library: Library, log: Log | None) -> Any:
    """A logger for the library that also keeps its errors.

    All messages except verbose ones go to `log`. The errors are in `errors`, the oldest first,
    without error codes and source locations.
    """
    trt = library.trt
    severities = {
        trt.ILogger.INTERNAL_ERROR: "error",
        trt.ILogger.ERROR: "error",
        trt.ILogger.WARNING: "warning",
        trt.ILogger.INFO: "info",
        trt.ILogger.VERBOSE: "verbose",
    }

    class Logger(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            kind = severities.get(severity, "info")
            if kind == "error":
                self.errors.append(tidy_message(message))
            if log is not None and kind != "verbose":
                log(f"{library.flavor.title} {kind}: {message}")

    return Logger()


def tidy_message(message: str) -> str:
    """A message of the library without error codes and source locations."""
    message = re.sub(r"\s*In \w+ at /_?src/\S+\s*", "", message)
    message = re.sub(r"\[\w+\.(cpp|h):\d+: \w+\]\s*", "", message)
    message = re.sub(r"^\w+::\w+: Error Code \d+: (Myelin \()?", "", message)
    return " ".join(message.split()).rstrip(")")


def _release(version: str) -> tuple[int, int]:
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0) if numbers else (0, 0)
