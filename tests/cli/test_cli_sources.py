"""--source offers every library whose checkpoints are read."""

from __future__ import annotations

from reformer_export.cli.exporting import SOURCES as CHOICES
from reformer_models.checkpoints.sources import AUTO, SOURCES


def test_the_choices_are_the_sources() -> None:
    assert (AUTO, *(source.name for source in SOURCES)) == CHOICES
