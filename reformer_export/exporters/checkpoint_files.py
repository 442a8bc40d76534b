"""The small files that an artifact takes along: the model's configuration and its tokenizer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from reformer_export.errors import ExportError

COMPANIONS = (
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


def copy_companions(checkpoint: Path, folder: Path) -> None:
    """Copy those of `COMPANIONS` that the folder of a checkpoint has into `folder`.

    An artifact is passed on, and a checkpoint may be somebody else's: a link in it must not bring
    a file of this machine into the artifact. Links of the Hugging Face cache do no such thing.

    Raises:
        ExportError: one of them is no file, or a link that leaves the checkpoint.
    """
    for name in COMPANIONS:
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
        shutil.copyfile(target, folder / name)


def _belongs(target: Path, checkpoint: Path) -> bool:
    """Whether a resolved path is the checkpoint's own: inside, or a blob beside its snapshot."""
    blobs = checkpoint.parent.parent / "blobs"
    cached = checkpoint.parent.name == "snapshots" and target.is_relative_to(blobs)
    return cached or target.is_relative_to(checkpoint)
