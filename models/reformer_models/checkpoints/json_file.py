"""Reading the JSON files of a checkpoint, and telling in one line what is wrong with any file."""

from __future__ import annotations

import json
from pathlib import Path

from reformer_models.errors import CheckpointError

_LONGEST = 200


def read_json_object(path: Path) -> dict[str, object]:
    """The object a JSON file holds.

    Raises:
        CheckpointError: The file can't be read, is no JSON, or holds something else.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {one_line(error)}") from error
    except (ValueError, RecursionError) as error:  # a wrong encoding is a ValueError, too
        raise CheckpointError(f"{path} is not JSON: {one_line(error)}") from error
    if not isinstance(held, dict):
        raise CheckpointError(f"{path} must hold a JSON object, found a {type(held).__name__}")
    return held


def one_line(error: BaseException) -> str:
    """What an exception says, without line breaks and not at length."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else words[:_LONGEST] + "..."
