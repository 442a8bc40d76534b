"""Adds formats of one model to one artifact, one by one."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import MANIFEST, Manifest, record_files
from reformer_export.errors import ArtifactError, UsageError


def check_room(out: str | Path, name: str, *, force: bool) -> bool:
    """True if there is a valid artifact at `out` that the format `name` can be added to.

    False if there is none, or if it is damaged and `force` is True; `stage` then decides whether
    `out` can be replaced.

    Raises:
        UsageError: it already has that format, and `force` is False.
        ArtifactError: it is damaged, and `force` is False.
    """
    if not os.path.lexists(Path(out) / MANIFEST):
        return False
    try:
        artifact = Artifact.open(out)
    except ArtifactError:
        if force:
            return False
        raise
    if name in artifact.formats and not force:
        raise UsageError(
            f"{artifact.path} exists: choose another folder, or --force to replace its {name}"
        )
    return True


def check_same_model(there: Manifest, new: Manifest, out: str | Path, *, force: bool) -> bool:
    """True if two manifests are of the same model.

    Raises:
        UsageError: they are not, and `force` is False.
    """
    different = next(
        (what for what, value in _identity(new).items() if value != _identity(there)[what]), None
    )
    if different is not None and not force:
        raise UsageError(
            f"{out} is an artifact with another {different}: choose another folder, give the "
            "options it was made with, or --force to replace it"
        )
    return different is None


def merge(there: Artifact, new: Manifest, folder: Path, name: str) -> Manifest:
    """Add the other formats of an artifact to `folder`, which holds only the new format.

    Returns:
        The manifest of all formats; `new` if the artifact is of another model.
    """
    old = there.manifest
    if not check_same_model(old, new, there.path, force=True):
        return new
    replaced = {
        file
        for format_name in (name, *new.formats)
        if format_name in old.formats
        for file in old.formats[format_name].files
    }
    kept = [file for file in old.files if file not in {*new.files, *replaced}]
    for file in kept:
        _take(there.path / file, folder / file)
    return dataclasses.replace(
        new, formats={**old.formats, **new.formats}, files=record_files(folder)
    )


def _identity(manifest: Manifest) -> dict[str, object]:
    """The parts that manifests of the same model have in common, by names that users know."""
    hashing = dataclasses.replace(manifest.hashing, notes=())
    return {
        "checkpoint": dict(manifest.source.files),
        "task": manifest.task,
        "dtype": manifest.dtype,
        "choice of --weights": _choice_of_weights(manifest),
        "choice of --logits": manifest.signature.last_logits,
        "maximum length": manifest.signature,
        "hashing": hashing,
        "version of the operators": dict(manifest.ops.versions),
    }


def _choice_of_weights(manifest: Manifest) -> object:
    return manifest.weights and (manifest.weights.type, manifest.weights.kept)


def _take(source: Path, target: Path) -> None:
    """Create a hard link to the file, or copy it if the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
