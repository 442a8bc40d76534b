"""Errors of exporting, checking and running an artifact.

`exit_code` is what the command line returns: 1 failure, 2 usage, 3 parity miss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reformer_ops.core.errors import ReformerError

__all__ = [
    "ArtifactError",
    "DeviceUnavailableError",
    "ExportError",
    "GenerationLimitError",
    "InferenceError",
    "InputError",
    "MissingDependencyError",
    "ParityError",
    "ReformerError",
    "RuntimeUnavailableError",
    "UsageError",
]


class UsageError(ReformerError):
    """The request cannot be met: another argument is needed."""

    exit_code = 2


class ParityError(ReformerError):
    """The exported model's numbers differ from the reference's; `report` is the record, as JSON."""

    exit_code = 3

    def __init__(self, message: str, report: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report = report


class ArtifactError(ReformerError):
    """A folder is not an artifact, or its contents differ from its manifest."""


class ExportError(ReformerError):
    """The artifact could not be made or written."""


class InputError(ReformerError):
    """Token ids, a mask or a text that the model does not take."""


class InferenceError(ReformerError):
    """A runtime that took the model could not run it on an input that fits its signature."""


class GenerationLimitError(ReformerError):
    """A sequence has reached the longest that the model takes.

    `tokens` are those generated until there, `[batch, new]` int64; None where they were streamed.
    """

    tokens: Any = None


class MissingDependencyError(ReformerError):
    """An optional package is absent or does not load; the message has the pip command."""


class RuntimeUnavailableError(ReformerError):
    """The runtime that was asked for cannot run here."""


class DeviceUnavailableError(ReformerError):
    """The device that the request needs, an NVIDIA GPU, is not here or cannot be used."""
