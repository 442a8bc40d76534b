"""The small files of a checkpoint that an artifact keeps: configuration and tokenizer."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.errors import ExportError
from reformer_export.source import SeriesConfig, check_not_pointer

if TYPE_CHECKING:
    from reformer_export.source import Checkpoint

CHECKPOINT_FILES = (
    "config.json",
    "added_tokens.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def write_config(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config.json into `folder` if the library of the checkpoint does not use this file.

    There is no config.json of a model of series: its own configuration file is copied.
    """
    config, library_file = checkpoint.config, checkpoint.written_by.config_file
    if isinstance(config, SeriesConfig):
        shutil.copyfile(checkpoint.directory / library_file, folder / library_file)
    elif library_file != "config.json":
        text = json.dumps(config.to_hf(), indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")


def copy_checkpoint_files(checkpoint: Path, folder: Path) -> None:
    """Copy the `CHECKPOINT_FILES` that exist in the folder `checkpoint` into `folder`.

    A checkpoint may come from another person, and other people receive the artifact. So a link in
    the checkpoint must not copy another file of this machine into the artifact. Links into the
    Hugging Face cache are followed.

    Raises:
        ExportError: one of them is not a file, or is a link to a file outside the checkpoint.
        CheckpointError: one is a Git LFS pointer.
    """
    for name in CHECKPOINT_FILES:
        path = checkpoint / name
        if not os.path.lexists(path):
            continue
        if not path.is_file():
            raise ExportError(
                f"{path} is not a file, or a link that leads nowhere: replace it by the file, "
                "or remove it"
            )
        target = path.resolve()
        if not _belongs(target, checkpoint.resolve()):
            raise ExportError(
                f"{path} is a link that leaves the checkpoint (to {target}), so it is not copied "
                "into an artifact: replace it by the file, or remove it"
            )
        check_not_pointer(target)
        shutil.copyfile(target, folder / name)


def _belongs(target: Path, checkpoint: Path) -> bool:
    """True if a resolved path is inside the checkpoint, or is a blob of the hub's cache."""
    blobs = checkpoint.parent.parent / "blobs"
    cached = checkpoint.parent.name == "snapshots" and target.is_relative_to(blobs)
    return cached or target.is_relative_to(checkpoint)
