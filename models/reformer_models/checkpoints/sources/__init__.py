"""The libraries whose checkpoints can be read: a module each, and here the list of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from reformer_models.checkpoints.sources.base import Described, Source
from reformer_models.checkpoints.sources.huggingface import HUGGINGFACE
from reformer_models.checkpoints.sources.lucidrains import LUCIDRAINS
from reformer_models.checkpoints.sources.time_series_library import TIME_SERIES_LIBRARY
from reformer_models.checkpoints.sources.trax import TRAX
from reformer_models.errors import CheckpointError, ConfigError

SOURCES: Final[tuple[Source, ...]] = (HUGGINGFACE, LUCIDRAINS, TRAX, TIME_SERIES_LIBRARY)

AUTO: Final = "auto"
"""The choice of the source by the configuration file."""

__all__ = ["AUTO", "HUGGINGFACE", "SOURCES", "Described", "Source", "source_of"]


def source_of(directory: Path, name: str = AUTO) -> Source | None:
    """The source of a checkpoint, by the configuration file in its folder; None without one.

    Args:
        directory: The folder.
        name: The name of a source, whose configuration file is then the only one that counts.

    Raises:
        ConfigError: No source has this name.
        CheckpointError: The folder has the configuration files of two sources and the name is
            "auto", or it does not have the file of the named source.
    """
    by_name = {source.name: source for source in SOURCES}
    if name not in (AUTO, *by_name):
        raise ConfigError(f"unknown source {name!r}: choose {AUTO} or one of {', '.join(by_name)}")
    found = [source for source in SOURCES if os.path.isfile(directory / source.config_file)]
    files = " and ".join(source.config_file for source in found)
    choices = " or ".join(source.name for source in found)
    if name != AUTO:
        if by_name[name] not in found:
            instead = f", but {files}: choose --source {choices}" if found else ""
            raise CheckpointError(f"{directory} has no {by_name[name].config_file}{instead}")
        return by_name[name]
    if len(found) > 1:
        raise CheckpointError(
            f"{directory} has {files}, of different libraries: name the library that saved the "
            f"weights with --source {choices}"
        )
    return found[0] if found else None
