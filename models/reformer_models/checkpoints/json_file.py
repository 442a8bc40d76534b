"""Reads the JSON files of a checkpoint, and describes in one line what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

from reformer_models.errors import CheckpointError

_LONGEST = 200
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_json_object(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        CheckpointError: The file can't be read, is not JSON, or does not hold an object.
    """
    check_not_pointer(path)
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {one_line(error)}") from error
    except (ValueError, RecursionError) as error:  # a wrong encoding is a ValueError, too
        raise CheckpointError(f"{path} is not JSON: {one_line(error)}") from error
    if not isinstance(held, dict):
        raise CheckpointError(f"{path} must hold a JSON object, found a {type(held).__name__}")
    return held


def check_not_pointer(path: Path) -> None:
    """Refuse a Git LFS pointer, which replaces a file that was not downloaded.

    Raises:
        CheckpointError: the file is such a pointer.
    """
    try:
        with path.open("rb") as file:
            pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return  # the next reader reports the error
    if pointer:
        raise CheckpointError(
            f"{path} is a Git LFS pointer and not the file itself: run `git lfs pull` in its folder"
        )


def one_line(error: BaseException) -> str:
    """The message of an exception on one line, cut if it is long."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else words[:_LONGEST] + "..."
