"""The base class of every exception that this project raises."""

from __future__ import annotations


class ReformerError(Exception):
    """An error that the user can act on: the message says what was asked, what was found, what to
    do.

    `exit_code` is what the command line returns for it: 1 failure, 2 usage, 3 parity miss.
    """

    exit_code = 1


class OpError(ReformerError, ValueError):
    """An operator was called with shapes, types or attributes it does not take."""


class NativeLibraryError(ReformerError):
    """A library of native kernels is not there, or does not load."""
