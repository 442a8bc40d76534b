"""Describes the contents of an artifact for people and programs, after checking its hashes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine, is_engine
from reformer_export.artifact.external_data import load_graph, tensors
from reformer_export.artifact.manifest import ONNX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import AttributeProto, NodeProto


@dataclass(frozen=True)
class Inspection:
    """An artifact and the contents of its graph.

    `ops` counts the nodes of the graph and its subgraphs by type ("Add", "reformer.LshBucket");
    `functions` counts the nodes of each function body; `opsets` are the imported versions by
    domain; `parameters` counts the elements of all initializers; `external` names the files that
    store them outside the graph.
    """

    artifact: Artifact
    ops: Mapping[str, int]
    functions: Mapping[str, int]
    opsets: Mapping[str, int]
    parameters: int
    external: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The inspection as a document."""
        return {
            **self.artifact.to_json(),
            "hashes_checked": True,
            "graph": {
                "ops": dict(self.ops),
                "functions": dict(self.functions),
                "opsets": dict(self.opsets),
                "parameters": self.parameters,
                "external_data": list(self.external),
            },
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """The inspection as (label, text) lines for people; empty labels continue a line."""
        manifest = self.artifact.manifest
        signature, hashing, source = manifest.signature, manifest.hashing, manifest.source
        yield "artifact", str(self.artifact.path)
        yield "model", f"{manifest.architecture}, {manifest.task}, {manifest.dtype}"
        if manifest.weights is not None:
            yield "weights", manifest.weights.describe()
        yield "made", manifest.created
        yield "source", source.name + (f" at {source.revision}" if source.revision else "")
        for name, record in source.files.items():
            yield "", f"{name}  {_size(record.bytes)}  sha256 {record.sha256}"
        for spec in signature.inputs:
            yield "input", str(spec)
        for spec in signature.outputs:
            yield "output", str(spec)
        yield from signature.summary()
        buckets = " x ".join(map(str, hashing.num_buckets)) or "none"
        yield (
            "hashing",
            f"{hashing.num_hashes} rounds, buckets {buckets}, seed {hashing.hash_seed}, "
            f"{len(hashing.rotations)} layers",
        )
        for note in hashing.notes:
            yield "", note
        yield "operators", f"domain {manifest.ops.domain}, {_pairs(manifest.ops.versions, ' ')}"
        for name, entry in manifest.formats.items():
            facts = [*entry.files, f"{entry.ops} operators"]
            facts += [f"{key} {value}" for key, value in {**entry.details, **entry.machine}.items()]
            yield name, ", ".join([*facts, f"made with {_pairs(entry.tools, ' ')}"])
            yield "", _parity(entry.parity)
        if ONNX in self.artifact.formats:
            yield from self._graph_rows()
        for name, record in manifest.files.items():
            yield "file", f"{name}  {_size(record.bytes)}  sha256 {record.sha256}  ok"

    def _graph_rows(self) -> Iterator[tuple[str, str]]:
        yield "opsets", _pairs(self.opsets, " ")
        yield "parameters", f"{self.parameters:,}"
        yield "nodes", f"{sum(self.ops.values())} of {len(self.ops)} types"
        for op, count in self.ops.items():
            yield "", f"{count:6d}  {op}"
        for name, count in self.functions.items():
            yield "function", f"{name}, {count} nodes"


def inspect_folder(path: str | os.PathLike[str]) -> Inspection | Engine:
    """Inspect a folder that holds an artifact or an engine; raises ArtifactError."""
    return Engine.open(path) if is_engine(path) else inspect_artifact(path)


def inspect_artifact(artifact: str | os.PathLike[str]) -> Inspection:
    """Open an artifact with all checks and count what its graph holds; raises ArtifactError."""
    opened = Artifact.open(artifact)
    if ONNX not in opened.formats:
        return Inspection(opened, {}, {}, {}, 0, ())
    model = load_graph(opened.format_path(ONNX))
    ops = Counter(map(_op, _nodes(model.graph.node)))
    external = {
        entry.value
        for tensor in tensors(model)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return Inspection(
        artifact=opened,
        ops=dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        functions={f"{f.domain}.{f.name}": sum(1 for _ in _nodes(f.node)) for f in model.functions},
        opsets={item.domain or "ai.onnx": item.version for item in model.opset_import},
        parameters=sum(prod(tensor.dims) for tensor in model.graph.initializer),
        external=tuple(sorted(external)),
    )


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and the nodes of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _attribute_nodes(attribute)


def _attribute_nodes(attribute: AttributeProto) -> Iterator[NodeProto]:
    if attribute.HasField("g"):
        yield from _nodes(attribute.g.node)
    for graph in attribute.graphs:
        yield from _nodes(graph.node)


def _op(node: NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _parity(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "not verified: reformer-export verify does it"
    return "verified when it was made" if record.get("passed") else "recorded without a pass"


def _pairs(values: Mapping[str, Any], joint: str) -> str:
    return ", ".join(f"{name}{joint}{value}" for name, value in values.items())


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
