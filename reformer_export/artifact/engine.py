"""A TensorRT engine: a folder with model.engine and engine.json, which describes it.

An engine can be read only on a GPU of the kind it was built for. So its record is written when it
is built: shapes, targets, layers, source, and what was verified.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reformer_export.artifact.artifact import check_file
from reformer_export.artifact.engine_header import check_header
from reformer_export.artifact.external_data import contained_file
from reformer_export.artifact.fields import Fields
from reformer_export.artifact.manifest import (
    FileRecord,
    files_from_json,
    files_to_json,
    read_raw_manifest,
    utc_now,
)
from reformer_export.artifact.signature import Signature, read_signature
from reformer_export.artifact.staging import atomic_file
from reformer_export.errors import ArtifactError

RECORD = "engine.json"
ENGINE = "model.engine"
SCHEMA_VERSION = 1

_REMEDY = "build it again with reformer-export to-tensorrt"


@dataclass(frozen=True)
class Extent:
    """The shape of an input: sequences, and tokens in each sequence."""

    batch: int
    length: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.length}"

    def to_json(self) -> list[int]:
        """[batch, length]."""
        return [self.batch, self.length]


@dataclass(frozen=True)
class Profile:
    """The shapes from `smallest` to `largest`, tuned for `usual`."""

    smallest: Extent
    usual: Extent
    largest: Extent

    def takes(self, batch: int, length: int) -> bool:
        """True if an input of this shape fits the profile."""
        low, high = self.smallest, self.largest
        return low.batch <= batch <= high.batch and low.length <= length <= high.length

    def __str__(self) -> str:
        return f"{self.smallest} to {self.largest}, tuned for {self.usual}"

    def to_json(self) -> dict[str, list[int]]:
        """The profile as an object of the record; every input has these shapes."""
        return {
            "min": self.smallest.to_json(),
            "opt": self.usual.to_json(),
            "max": self.largest.to_json(),
        }

    @classmethod
    def from_json(cls, fields: Fields) -> Profile:
        """Read what `to_json` wrote; raises ArtifactError."""
        return cls(*(_extent(fields, key) for key in ("min", "opt", "max")))


@dataclass(frozen=True)
class Layer:
    """A layer of the network as TensorRT's parser made it, before any fusion.

    `node` is the ONNX node that it belongs to; None if the parser itself added the layer (shapes).
    """

    name: str
    type: str
    node: str | None
    outputs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The layer as an object of the record."""
        return {
            "name": self.name,
            "type": self.type,
            "node": self.node,
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_json(cls, fields: Fields) -> Layer:
        """Read what `to_json` wrote; raises ArtifactError."""
        return cls(
            fields.text("name"),
            fields.text("type"),
            fields.text_or_none("node"),
            fields.texts("outputs"),
        )


@dataclass(frozen=True)
class Operator:
    """How one of our nodes was built: `form` is "portable", "convolution" or "plugin"."""

    node: str
    op: str
    form: str
    layers: int

    def to_json(self) -> dict[str, Any]:
        """The operator as an object of the record."""
        return {"node": self.node, "op": self.op, "form": self.form, "layers": self.layers}

    @classmethod
    def from_json(cls, fields: Fields) -> Operator:
        """Read what `to_json` wrote; raises ArtifactError."""
        return cls(
            fields.text("node"), fields.text("op"), fields.text("form"), fields.integer("layers")
        )


@dataclass(frozen=True)
class EngineSource:
    """The artifact that an engine was built from, and the graph that was written for TensorRT."""

    artifact: str
    manifest_sha256: str
    model_sha256: str
    graph_sha256: str

    def to_json(self) -> dict[str, str]:
        """The source as an object of the record."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, fields: Fields) -> EngineSource:
        """Read what `to_json` wrote; raises ArtifactError."""
        return cls(*(fields.text(name) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Build:
    """Seconds and peak memory of the build, and its limit of scratch memory; None if not set."""

    seconds: float
    peak_rss_bytes: int
    workspace_bytes: int | None


@dataclass(frozen=True)
class EngineRecord:
    """engine.json as values.

    Attributes:
        flavor: "rtx" or "standard"; `version` is the library's.
        dtype: the type of weights and activations. TF32 is off in every engine.
        targets: GPUs that it runs on, such as "sm80"; empty for the GPU that it was built on.
        ops: "portable" or "plugin".
        signature: inputs and outputs, with the lengths of the profiles.
        evidence: what was verified, in words; `parity` is the parity record or None.
        files: all files of the folder except the record itself.
    """

    flavor: str
    version: str
    dtype: str
    targets: tuple[str, ...]
    ops: str
    profiles: tuple[Profile, ...]
    signature: Signature
    layers: tuple[Layer, ...]
    operators: tuple[Operator, ...]
    weights_bytes: int
    build: Build
    source: EngineSource
    evidence: str
    parity: Mapping[str, Any] | None
    files: Mapping[str, FileRecord]
    tools: Mapping[str, str]
    created: str = field(default_factory=utc_now)

    def layer_types(self) -> dict[str, int]:
        """The number of layers of each type, the most frequent type first."""
        return dict(Counter(layer.type for layer in self.layers).most_common())

    def to_json(self) -> dict[str, Any]:
        """The document, of schema SCHEMA_VERSION."""
        return {
            "schema_version": SCHEMA_VERSION,
            "flavor": self.flavor,
            "version": self.version,
            "dtype": self.dtype,
            "tf32": False,
            "targets": list(self.targets),
            "ops": self.ops,
            "profiles": [profile.to_json() for profile in self.profiles],
            "signature": self.signature.to_json(),
            "weights_bytes": self.weights_bytes,
            "build": vars(self.build),
            "source": self.source.to_json(),
            "evidence": self.evidence,
            "parity": None if self.parity is None else dict(self.parity),
            "files": files_to_json(self.files),
            "tools": dict(self.tools),
            "created": self.created,
            "operators": [operator.to_json() for operator in self.operators],
            "layers": [layer.to_json() for layer in self.layers],
        }

    @classmethod
    def from_json(cls, raw: object, where: str = RECORD) -> EngineRecord:
        """Read what `to_json` wrote; unknown keys are ignored.

        Raises ArtifactError, which names the field, for a newer schema, a missing field or a wrong
        type.
        """
        fields = Fields(raw, where)
        fields.check_schema(SCHEMA_VERSION)
        build = fields.child("build")
        profiles = tuple(Profile.from_json(item) for item in fields.children("profiles"))
        if not profiles:
            raise ArtifactError(f"{where}.profiles is empty: {_REMEDY}")
        return cls(
            flavor=fields.text("flavor"),
            version=fields.text("version"),
            dtype=fields.text("dtype"),
            targets=fields.texts("targets"),
            ops=fields.text("ops"),
            profiles=profiles,
            signature=read_signature(fields.value("signature"), f"{where}.signature"),
            layers=tuple(Layer.from_json(item) for item in fields.children("layers")),
            operators=tuple(Operator.from_json(item) for item in fields.children("operators")),
            weights_bytes=fields.integer("weights_bytes", minimum=0),
            build=Build(
                build.number("seconds"),
                build.integer("peak_rss_bytes", minimum=0),
                build.integer_or_none("workspace_bytes"),
            ),
            source=EngineSource.from_json(fields.child("source")),
            evidence=fields.text("evidence"),
            parity=fields.object_or_none("parity"),
            files=files_from_json(fields.child("files")),
            tools=fields.texts_by_name("tools"),
            created=fields.text("created"),
        )


@dataclass(frozen=True)
class Engine:
    """An opened engine folder (resolved) and its record, checked against each other."""

    path: Path
    record: EngineRecord

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, check_hashes: bool = True) -> Engine:
        """Open the engine in the folder `path`; nothing in it is executed.

        Names, presence, sizes and the engine's own header are always checked.
        `check_hashes=False` skips the hashes, for which every byte is read. Raises ArtifactError,
        which names the wrong file.
        """
        if not is_engine(path):
            raise ArtifactError(f"{path} has no {RECORD}, so it is not an engine: {_REMEDY}")
        folder = Path(path).resolve()
        where = contained_file(folder, RECORD, "the record")
        record = EngineRecord.from_json(read_raw_manifest(where), str(where))
        if ENGINE not in record.files:
            raise ArtifactError(f"{where} does not list {ENGINE}: {_REMEDY}")
        for name, expected in record.files.items():
            file = contained_file(folder, name, f"the file that {RECORD} lists,")
            check_file(file, expected, check_hashes=check_hashes, listing=RECORD, remedy=_REMEDY)
        check_header(folder / ENGINE, record.flavor, record.version, record.targets)
        return cls(folder, record)

    @property
    def engine_path(self) -> Path:
        """The serialised engine."""
        return self.path / ENGINE

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and limits of the engine."""
        return self.record.signature

    def file(self, name: str) -> Path | None:
        """The path of the file `name`; None if the record does not list it."""
        return self.path / name if name in self.record.files else None

    def to_json(self) -> dict[str, Any]:
        """The path and the whole record."""
        return {"engine": str(self.path), "record": self.record.to_json()}

    def rows(self) -> Iterator[tuple[str, str]]:
        """The engine as (label, text) lines for people; empty labels continue a line."""
        record = self.record
        yield "engine", str(self.path)
        yield "built", f"{record.created} with {record.flavor} {record.version}, {record.dtype}"
        took = record.build
        yield "", f"in {took.seconds:.1f} s, at most {took.peak_rss_bytes / 1e9:.2f} GB of memory"
        yield "targets", ", ".join(record.targets) or "the GPU it was built on"
        for number, profile in enumerate(record.profiles):
            yield f"profile {number}", str(profile)
        for spec in record.signature.inputs:
            yield "input", str(spec)
        for spec in record.signature.outputs:
            yield "output", str(spec)
        yield "weights", f"{record.weights_bytes / 1e6:.1f} MB"
        for operator in record.operators:
            yield "operator", f"{operator.node}: {operator.form}, {operator.layers} layers"
        yield "layers", f"{len(record.layers)} as parsed"
        for kind, count in record.layer_types().items():
            yield "", f"{count:6d}  {kind}"
        yield "source", f"{record.source.artifact}, sha256 {record.source.model_sha256}"
        for name, file in record.files.items():
            yield "file", f"{name}  {file.bytes / 1e6:.1f} MB  sha256 {file.sha256}  ok"
        yield "evidence", record.evidence
        if record.parity is not None:
            yield "parity", str(record.parity.get("summary"))


def is_engine(path: str | os.PathLike[str]) -> bool:
    """True if a folder holds an engine's record, valid or not."""
    return os.path.lexists(Path(path) / RECORD)


def write_record(folder: Path, record: EngineRecord) -> Path:
    """Write `folder`/engine.json completely or not at all; returns its path."""
    path = Path(folder) / RECORD
    text = json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())
    return path


def _extent(fields: Fields, key: str) -> Extent:
    sizes = fields.integers(key)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ArtifactError(f"{fields.where}.{key} must be [batch, length], found {list(sizes)}")
    return Extent(*sizes)
