"""Errors of reading checkpoints and building models."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

from reformer_ops.core.errors import ReformerError

_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = 120


def quoted(value: object) -> str:
    """A value from a file for an error message: quoted, on one line, cut if it is long."""
    return _QUOTE.repr(value)


def shortened(name: str) -> str:
    """A name from a file for an error message: without quotes, on one line, cut if it is long."""
    return quoted(name)[1:-1]


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first of these names, and how many more there are."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(shortened, names[:shown])) + rest


class ConfigError(ReformerError, ValueError):
    """A configuration that is invalid for a Reformer, or a value that the configuration does not
    allow."""


class CheckpointError(ReformerError):
    """A checkpoint that can't be found, read or trusted."""


class InputShapeError(ReformerError, ValueError):
    """A sequence length for which the model has no positions."""
