"""The libraries whose checkpoints can be read: a module each, and here the list of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from reformer_models.checkpoints.sources.base import Described, Source
from reformer_models.checkpoints.sources.huggingface import HUGGINGFACE
from reformer_models.checkpoints.sources.lucidrains import LUCIDRAINS
from reformer_models.errors import CheckpointError

SOURCES: Final[tuple[Source, ...]] = (HUGGINGFACE, LUCIDRAINS)

__all__ = ["HUGGINGFACE", "SOURCES", "Described", "Source", "source_of"]


def source_of(directory: Path) -> Source | None:
    """The source of a checkpoint, by the configuration file in its folder; None without one.

    Raises:
        CheckpointError: The folder has the configuration files of two sources.
    """
    found = [source for source in SOURCES if os.path.isfile(directory / source.config_file)]
    if len(found) > 1:
        names = " and ".join(source.config_file for source in found)
        raise CheckpointError(
            f"{directory} has {names}, of different libraries: keep the one of the library that "
            "saved the weights"
        )
    return found[0] if found else None
