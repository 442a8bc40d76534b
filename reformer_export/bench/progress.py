"""Progress messages of a part of a larger task."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def prefixed(say: Progress, name: str) -> Progress:
    """A `say` that puts the name of the part before each message."""
    return lambda message: say(f"{name}, {message}")
