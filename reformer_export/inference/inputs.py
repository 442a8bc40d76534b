"""Reads model inputs from files: arrays saved by NumPy, tables, and text as bytes."""

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
    array = _read_npy(Path(path), "an integer array")
    if array.ndim not in (1, 2):
        raise InputError(
            f"{path} has shape {list(array.shape)}; {name} must be [length] or [batch, length]"
        )
    return array if array.ndim == 2 else array[None, :]


def read_series(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """Read input `name` from a .npy or .csv file; returns [batch, length, channels].

    A .npy file holds [length], [length, channels] or [batch, length, channels], and is read as by
    `read_array`. A .csv file has a line for each step, and its first line may name the columns.
    Raises InputError.
    """
    path = Path(path)
    array = _read_csv(path) if path.suffix == ".csv" else _read_npy(path, "an array of numbers")
    if array.ndim not in (1, 2, 3):
        raise InputError(
            f"{path} has shape {list(array.shape)}; {name} must be [length], [length, channels] or "
            "[batch, length, channels]"
        )
    if array.ndim == 1:
        array = array[:, None]
    return array if array.ndim == 3 else array[None]


def _read_csv(path: Path) -> np.ndarray:
    text = read_bytes(path).decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and not _is_table(lines[:1]):  # the names of the columns
        lines = lines[1:]
    if lines and _is_table(lines):
        return _table(lines)
    raise InputError(
        f"{path} does not hold a table of numbers: write a line for each step, with its numbers "
        "separated by commas, after at most one line of names"
    )


def _is_table(lines: list[str]) -> bool:
    try:
        _table(lines)
    except ValueError:
        return False
    return True


def _table(lines: list[str]) -> np.ndarray:
    return np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)


def _read_npy(path: Path, kind: str) -> np.ndarray:
    try:
        with path.open("rb") as file:
            if not file.read(6).startswith(b"\x93NUMPY"):
                raise InputError(f"{path} is not a .npy file: write it with numpy.save")
        with np.errstate(over="ignore"):  # a shape too large for memory is an error below
            return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except _OF_THE_HEADER as error:
        raise InputError(
            f"{path} does not hold an array of numbers ({_one_line(error)}): "
            f"write it with numpy.save from {kind}"
        ) from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a text file; raises InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
