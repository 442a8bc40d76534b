"""Errors of requests, with the HTTP status that they get."""

from __future__ import annotations

from reformer_export.errors import ReformerError


class RequestError(ReformerError):
    """A request is refused or fails.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
