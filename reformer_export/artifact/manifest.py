"""manifest.json: what an artifact is, where it came from, and the hash of every file in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reformer_export.artifact.fields import Fields
from reformer_export.artifact.signature import Signature, read_signature
from reformer_export.artifact.staging import atomic_file
from reformer_export.errors import ArtifactError

MANIFEST = "manifest.json"
MODEL = "model.onnx"
ONNX, TORCHSCRIPT, AOTI, EXECUTORCH = "onnx", "torchscript", "aoti", "executorch"
WEB = "web"
"""A page that runs the model in a browser."""
CUDA = "cuda"
"""GPU kernels for the operators of model.onnx."""
DECODER = "decoder"
"""The graphs for generation: one for the prompt and one for each further token."""
DECODER_FILES = ("decoder_model.onnx", "decoder_with_past_model.onnx")
DECODER_WEIGHTS = "decoder_model.onnx_data"
SCHEMA_VERSION = 3
"""The newest schema this release reads, and the one it writes. In versions 1 and 2, the fields of
model.onnx are at the top level of the manifest. In version 1, every artifact has a model.onnx."""

_LARGEST = 16 * 2**20  # bytes; a manifest has a few kB, and a larger file is not read


@dataclass(frozen=True)
class FileRecord:
    """The SHA-256 (in hexadecimal) and the size that a file must have."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Hash a file; raises OSError."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return cls(digest.hexdigest(), file.tell())


@dataclass(frozen=True)
class OpsRecord:
    """The domain of our operators and, by name, the versions that the model was exported for."""

    domain: str
    versions: Mapping[str, int]


@dataclass(frozen=True)
class RotationRecord:
    """The hash rotations of one layer: fp32, little endian, C order."""

    layer: int
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class HashingRecord:
    """What determines the buckets; `notes` say what was pinned or overridden and why."""

    num_buckets: tuple[int, ...] = ()
    num_hashes: int = 0
    hash_seed: int | None = None
    notes: tuple[str, ...] = ()
    rotations: tuple[RotationRecord, ...] = ()


@dataclass(frozen=True)
class WeightsRecord:
    """Weights of fewer bits than the model's type has.

    Attributes:
        type: such as "int8".
        kept: the groups of weights that keep the model's type.
        quality: how the model differs from the one with all its bits; None if not measured.
    """

    type: str
    kept: tuple[str, ...] = ()
    quality: Mapping[str, Any] | None = None

    @property
    def rounds_inputs(self) -> bool:
        """True if the inputs of linear layers are rounded, too."""
        return self.type != "fp16"

    def describe(self) -> str:
        """The type of the weights and the quality, in one line."""
        kept = f", but {', '.join(self.kept)}" if self.kept else ""
        measured = self.quality and self.quality.get("summary")
        return f"{self.type}{kept}; {measured or 'not compared with all bits'}"


@dataclass(frozen=True)
class SourceRecord:
    """The checkpoint: its name as the user gave it, its revision on the hub, its files.

    `ignored_keys` are the unknown keys of its config.json that the user chose to ignore.
    `ignored_weights` are the names of the tensors to ignore, or patterns of names with *.
    `library` is the name of the library that saved it, as for --source. It is "auto" in manifests
    that do not have it yet.
    """

    name: str
    revision: str | None
    files: Mapping[str, FileRecord]
    ignored_keys: tuple[str, ...] = ()
    ignored_weights: tuple[str, ...] = ()
    library: str = "auto"


@dataclass(frozen=True)
class FormatRecord:
    """The model in one format.

    Attributes:
        files: the format's files in the artifact; the first is the one that a runtime opens.
        ops: how the files represent our operators. "auto": nodes with bodies in standard operators;
            "native": nodes whose library must be loaded; "portable": standard operators only.
        tools: versions of the tools that created the files.
        machine: the machine that the files run on, if they hold machine code; else empty.
        details: other facts about this format, such as the opset of ONNX.
        parity: the record of its verification; None if it was not verified.
    """

    files: tuple[str, ...]
    ops: str
    tools: Mapping[str, str]
    machine: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] | None = None

    @property
    def file(self) -> str:
        """The file that a runtime opens."""
        return self.files[0]


def utc_now() -> str:
    """The current time in the format of manifests: ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    `files` are all files of the artifact except the manifest itself; `formats` are the formats of
    the model in the artifact, by name. `weights` is None if all weights are of the type `dtype`.
    """

    task: str
    architecture: str
    dtype: str
    ops: OpsRecord
    signature: Signature
    hashing: HashingRecord
    source: SourceRecord
    files: Mapping[str, FileRecord]
    formats: Mapping[str, FormatRecord] = field(default_factory=dict)
    weights: WeightsRecord | None = None
    created: str = field(default_factory=utc_now)

    def to_json(self) -> dict[str, Any]:
        """The JSON document, in schema `SCHEMA_VERSION`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "task": self.task,
            "architecture": self.architecture,
            "dtype": self.dtype,
            "ops": {"domain": self.ops.domain, "versions": dict(self.ops.versions)},
            "signature": self.signature.to_json(),
            "hashing": {
                "num_buckets": list(self.hashing.num_buckets),
                "num_hashes": self.hashing.num_hashes,
                "hash_seed": self.hashing.hash_seed,
                "notes": list(self.hashing.notes),
                "rotations": [
                    {"layer": r.layer, "shape": list(r.shape), "sha256": r.sha256}
                    for r in self.hashing.rotations
                ],
            },
            "source": {
                "name": self.source.name,
                "library": self.source.library,
                "revision": self.source.revision,
                "ignored_keys": list(self.source.ignored_keys),
                "ignored_weights": list(self.source.ignored_weights),
                "files": files_to_json(self.source.files),
            },
            "files": files_to_json(self.files),
            "formats": {
                name: {
                    "files": list(record.files),
                    "ops": record.ops,
                    "tools": dict(record.tools),
                    "machine": dict(record.machine),
                    "details": dict(record.details),
                    "parity": None if record.parity is None else dict(record.parity),
                }
                for name, record in self.formats.items()
            },
            "weights": None
            if self.weights is None
            else {
                "type": self.weights.type,
                "kept": list(self.weights.kept),
                "quality": None if self.weights.quality is None else dict(self.weights.quality),
            },
            "created": self.created,
        }

    @classmethod
    def from_json(cls, raw: object, where: str = MANIFEST) -> Manifest:
        """Read a document of any schema up to `SCHEMA_VERSION`; unknown keys are ignored.

        Raises ArtifactError for a newer schema, a missing field or a wrong type; the message names
        the field.
        """
        fields = Fields(raw, where)
        version = fields.check_schema(SCHEMA_VERSION)
        ops, hashing, source = (fields.child(key) for key in ("ops", "hashing", "source"))
        files = files_from_json(fields.child("files"))
        return cls(
            task=fields.text("task"),
            architecture=fields.text("architecture"),
            dtype=fields.text("dtype"),
            ops=OpsRecord(domain=ops.text("domain"), versions=_integers(ops.child("versions"))),
            signature=read_signature(fields.value("signature"), f"{where}.signature"),
            hashing=HashingRecord(
                num_buckets=hashing.integers("num_buckets"),
                num_hashes=hashing.integer("num_hashes", minimum=0),
                hash_seed=hashing.integer_or_none("hash_seed"),
                notes=hashing.texts("notes"),
                rotations=tuple(
                    RotationRecord(r.integer("layer"), r.integers("shape"), r.text("sha256"))
                    for r in hashing.children("rotations")
                ),
            ),
            source=SourceRecord(
                name=source.text("name"),
                revision=source.text_or_none("revision"),
                files=files_from_json(source.child("files")),
                ignored_keys=source.texts("ignored_keys"),
                ignored_weights=source.texts("ignored_weights") if version > 2 else (),
                library=source.text("library") if "library" in source else "auto",
            ),
            files=files,
            formats=_formats(fields) if version > 2 else _formats_before_3(fields, files),
            weights=_weights(fields),
            created=fields.text("created"),
        )


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.json; raises ArtifactError if the file is not a valid manifest."""
    return Manifest.from_json(read_raw_manifest(path))


def read_raw_manifest(path: Path) -> object:
    """Read the JSON document without checking its fields."""
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise ArtifactError(f"{path} holds {size} bytes: that is no manifest")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is not valid JSON ({error}): the artifact is damaged, export the model again"
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write `folder`/manifest.json completely or not at all; returns its path."""
    path = Path(folder) / MANIFEST
    text = json.dumps(manifest.to_json(), indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())
    return path


def record_files(folder: Path, names: Iterable[str] | None = None) -> dict[str, FileRecord]:
    """Hash the files of a folder (all but the manifest, or the named ones), ordered by name."""
    folder = Path(folder)
    if names is None:
        names = (p.name for p in folder.iterdir() if p.name != MANIFEST)
    return {name: FileRecord.of(folder / name) for name in sorted(names)}


def files_to_json(files: Mapping[str, FileRecord]) -> dict[str, dict[str, Any]]:
    """The hashes and sizes of files as a JSON object for a manifest."""
    return {name: {"sha256": r.sha256, "bytes": r.bytes} for name, r in files.items()}


def files_from_json(fields: Fields) -> dict[str, FileRecord]:
    """Read what `files_to_json` wrote; raises ArtifactError."""
    return {
        name: FileRecord(entry.text("sha256"), entry.integer("bytes", minimum=0))
        for name in fields.names()
        for entry in [fields.child(name)]
    }


def _weights(fields: Fields) -> WeightsRecord | None:
    if "weights" not in fields or fields.value("weights") is None:
        return None
    entry = fields.child("weights")
    return WeightsRecord(entry.text("type"), entry.texts("kept"), entry.object_or_none("quality"))


def _formats(fields: Fields) -> dict[str, FormatRecord]:
    formats = fields.child("formats")
    return {
        name: FormatRecord(
            files=entry.texts("files", minimum=1),
            ops=entry.text("ops"),
            tools=entry.texts_by_name("tools"),
            machine=entry.texts_by_name("machine"),
            details=entry.object("details"),
            parity=entry.object_or_none("parity"),
        )
        for name in formats.names()
        for entry in [formats.child(name)]
    }


def _formats_before_3(fields: Fields, files: Mapping[str, FileRecord]) -> dict[str, FormatRecord]:
    """The formats in a manifest of schema 1 or 2, which has one file per format."""
    found = {}
    if MODEL in files:
        found[ONNX] = FormatRecord(
            files=tuple(name for name in (MODEL, f"{MODEL}_data") if name in files),
            ops=fields.child("ops").text("mode"),
            tools=fields.texts_by_name("tools"),
            details={"opset": fields.integer("opset", minimum=1)},
            parity=fields.object_or_none("parity"),
        )
    if "formats" not in fields:
        return found
    formats = fields.child("formats")
    for name in formats.names():
        entry = formats.child(name)
        found[name] = FormatRecord(
            files=(entry.text("file"),),
            ops=entry.text("ops"),
            tools=entry.texts_by_name("tools"),
            machine=entry.texts_by_name("machine"),
            parity=entry.object_or_none("parity"),
        )
    return found


def _integers(fields: Fields) -> dict[str, int]:
    return {name: fields.integer(name) for name in fields.names()}
