"""Telling what is going on, from within what is a part of something."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def prefixed(say: Progress, name: str) -> Progress:
    """Tells as `say` does, of the part called `name`."""
    return lambda message: say(f"{name}, {message}")
