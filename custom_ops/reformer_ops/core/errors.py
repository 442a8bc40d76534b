"""The base class of every exception that this project raises."""

from __future__ import annotations


class ReformerError(Exception):
    """An error that the user can correct: the message says what was requested, what was found, and
    what to do.

    `exit_code` is the exit code of the command line: 1 failure, 2 usage, 3 parity miss.
    """

    exit_code = 1


class OpError(ReformerError, ValueError):
    """An operator was called with shapes, types or attributes that it does not accept."""


class NativeLibraryError(ReformerError):
    """A library of native kernels is missing or does not load."""
