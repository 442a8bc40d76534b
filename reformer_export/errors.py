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
    """The request is not possible with these arguments."""

    exit_code = 2


class ParityError(ReformerError):
    """The exported model's outputs differ from the reference's; `report` is the record, as JSON."""

    exit_code = 3

    def __init__(self, message: str, report: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report = report


class ArtifactError(ReformerError):
    """A folder is not an artifact, or its contents differ from its manifest."""


class ExportError(ReformerError):
    """The artifact could not be created or written."""


class InputError(ReformerError):
    """The model does not accept the token ids, the mask or the text."""


class InferenceError(ReformerError):
    """A runtime opened the model but could not run it on an input that matches its signature."""


class GenerationLimitError(ReformerError):
    """A sequence has reached the maximum length of the model.

    `tokens` are the tokens generated before, `[batch, new]` int64; None if they were streamed.
    """

    tokens: Any = None


class MissingDependencyError(ReformerError):
    """An optional package is missing or does not load; the message contains the pip command."""


class RuntimeUnavailableError(ReformerError):
    """The requested runtime cannot run here."""


class DeviceUnavailableError(ReformerError):
    """The request needs an NVIDIA GPU that is missing or cannot be used."""
