"""An artifact: a folder with a model in one or more formats, and a manifest that lists every
file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_export.artifact.external_data import check_external_data, contained_file
from reformer_export.artifact.manifest import (
    MANIFEST,
    FileRecord,
    Manifest,
    read_manifest,
)
from reformer_export.artifact.signature import Signature
from reformer_export.errors import ArtifactError


@dataclass(frozen=True)
class Artifact:
    """An opened artifact: its folder (resolved) and its manifest, checked against each other."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, check_hashes: bool = True) -> Artifact:
        """Open the artifact in the folder `path`.

        Names, presence, containment, sizes and external data are always checked.
        `check_hashes=False` skips the hashes, for which every byte is read (for a folder that was
        just written). Raises ArtifactError, which names the wrong file. A file that the manifest
        does not list is not part of the artifact and is never used.
        """
        folder = _folder(Path(path))
        manifest = read_manifest(contained_file(folder, MANIFEST, "the manifest"))
        if not manifest.formats:
            raise ArtifactError(f"{folder / MANIFEST} lists no model: export again")
        for format_name, record in manifest.formats.items():
            for name in record.files:
                if name not in manifest.files:
                    raise ArtifactError(
                        f"{folder / MANIFEST} says that {format_name} is in {name!r}, which it "
                        "does not list: export again"
                    )
        for name, expected in manifest.files.items():
            if name == MANIFEST:
                raise ArtifactError(f"{folder / MANIFEST} lists itself: export again")
            file = contained_file(folder, name, f"the file that {MANIFEST} lists,")
            check_file(file, expected, check_hashes=check_hashes)
        for record in manifest.formats.values():
            for name in record.files:
                if name.endswith(".onnx"):
                    check_external_data(folder / name, manifest.files)
        return cls(folder, manifest)

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of the formats of the model in this artifact."""
        return tuple(self.manifest.formats)

    def format_path(self, name: str) -> Path:
        """The file of one of `formats`, which a runtime opens."""
        return self.path / self.manifest.formats[name].file

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and limits of the model."""
        return self.manifest.signature

    def parity(self, name: str) -> Mapping[str, Any] | None:
        """The parity record of one of `formats`; None if it was not verified."""
        return self.manifest.formats[name].parity

    def file(self, name: str) -> Path | None:
        """The path of the file `name`; None if the manifest does not list it."""
        return self.path / name if name in self.manifest.files else None

    def to_json(self) -> dict[str, Any]:
        """The path and the whole manifest."""
        return {"artifact": str(self.path), "manifest": self.manifest.to_json()}


def _folder(path: Path) -> Path:
    made = "make one with reformer-export to-onnx"
    try:
        if not path.exists():
            raise ArtifactError(f"there is no artifact at {path}: {made}")
        if not path.is_dir():
            raise ArtifactError(f"{path} is a file; an artifact is a folder with a {MANIFEST}")
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    if not os.path.lexists(path / MANIFEST):
        raise ArtifactError(f"{path} has no {MANIFEST}, so it is not an artifact: {made}")
    return path.resolve()


def check_file(
    file: Path,
    expected: FileRecord,
    *,
    check_hashes: bool,
    listing: str = "the manifest",
    remedy: str = "export the model again",
) -> None:
    """Compare a file with its record in `listing`; ArtifactError with `remedy` if they differ."""
    try:
        size = file.stat().st_size
        if size != expected.bytes:
            raise ArtifactError(
                f"{file} has {size} bytes and {listing} says {expected.bytes}: "
                f"it was cut or changed, {remedy}"
            )
        if check_hashes and (found := FileRecord.of(file).sha256) != expected.sha256:
            raise ArtifactError(
                f"{file} has sha256 {found[:12]}... and {listing} says "
                f"{expected.sha256[:12]}...: it was changed or damaged, {remedy}"
            )
    except OSError as error:
        raise ArtifactError(f"cannot read {file}: {error.strerror}") from error
