"""Reads model inputs from files: arrays saved by NumPy, and text as bytes."""

from __future__ import annotations

import os
from pathlib import Path
from tokenize import TokenError

import numpy as np

from reformer_export.errors import InputError

_OF_THE_HEADER = (ValueError, TypeError, EOFError, OverflowError, SyntaxError, TokenError)


def read_array(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """Read input `name` from a .npy file of [length] or [batch, length]; returns [batch, length].

    Nothing is unpickled. The file is memory-mapped before it is copied, so a header that claims
    more data than the file holds allocates nothing. Raises InputError.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if not file.read(6).startswith(b"\x93NUMPY"):
                raise InputError(f"{path} is not a .npy file: write it with numpy.save")
        with np.errstate(over="ignore"):  # a shape too large for memory is an error below
            array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except _OF_THE_HEADER as error:
        raise InputError(
            f"{path} does not hold an array of numbers ({_one_line(error)}): "
            "write it with numpy.save from an integer array"
        ) from error
    if array.ndim not in (1, 2):
        raise InputError(
            f"{path} has shape {list(array.shape)}; {name} must be [length] or [batch, length]"
        )
    return array if array.ndim == 2 else array[None, :]


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a text file; raises InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
