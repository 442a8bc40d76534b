"""Artifacts with defects, whose manifests match the defective files."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import record_files, write_manifest

Defect = Callable[[onnx.GraphProto], None]


def with_defect(artifact: Artifact, folder: Path, defect: Defect) -> Artifact:
    """A copy of an artifact in a new folder, with a changed graph and a matching manifest."""
    shutil.copytree(artifact.path, folder)
    model = onnx.load(folder / "model.onnx")
    defect(model.graph)
    onnx.save(model, folder / "model.onnx")
    manifest = dataclasses.replace(artifact.manifest, files=record_files(folder))
    write_manifest(folder, manifest)
    return Artifact.open(folder)


def weight(suffix: str, change: Callable[[np.ndarray], np.ndarray]) -> Defect:
    """Changes the only weight whose name ends with `suffix`."""

    def defect(graph: onnx.GraphProto) -> None:
        (tensor,) = (t for t in graph.initializer if t.name.endswith(suffix))
        array = numpy_helper.to_array(tensor)
        changed = change(array.astype(np.float64)).astype(array.dtype)
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))

    return defect


def after(suffix: str, *nodes: NodeProto) -> Defect:
    """Inserts nodes after the first value with this suffix; they read "in" and write "out"."""

    def defect(graph: onnx.GraphProto) -> None:
        place, node = next(
            (i, n) for i, n in enumerate(graph.node) if n.output and n.output[0].endswith(suffix)
        )
        name = node.output[0]
        node.output[0] = "before the defect"
        renamed = {"in": "before the defect", "out": name}
        for number, original in enumerate(nodes):
            inserted = NodeProto()
            inserted.CopyFrom(original)
            inserted.input[:] = [renamed.get(n, n) for n in original.input]
            inserted.output[:] = [renamed.get(n, n) for n in original.output]
            graph.node.insert(place + 1 + number, inserted)

    return defect


def constant(name: str, value: object, dtype: str) -> NodeProto:
    tensor = numpy_helper.from_array(np.array(value, dtype))
    return helper.make_node("Constant", [], [name], value=tensor)


def mask_ignored(graph: onnx.GraphProto) -> None:
    """No token is masked; attention_mask has no effect."""
    takes = [node for node in graph.node if "attention_mask" in node.input]
    (padded,) = (node for node in takes if node.op_type == "Concat")
    padded.input[0] = "ones"
    one = numpy_helper.from_array(np.array([1], np.int64))
    made = [
        helper.make_node("Shape", ["input_ids"], ["shape of ones"]),
        helper.make_node("ConstantOfShape", ["shape of ones"], ["ones"], value=one),
    ]
    for number, node in enumerate(made):
        graph.node.insert(number, node)


def length_baked(graph: onnx.GraphProto) -> None:
    """The sequence length is a constant, 29, as if it were that of the export."""
    sizes = [node for node in graph.node if node.op_type == "Shape"]
    (node,) = (n for n in sizes if {a.name: a.i for a in n.attribute}.get("start") == 1)
    value = numpy_helper.from_array(np.array([29], np.int64))
    node.CopyFrom(helper.make_node("Constant", [], list(node.output), value=value))


def half_logits(graph: onnx.GraphProto) -> None:
    """The output has another type than the manifest says."""
    after("logits", helper.make_node("Cast", ["in"], ["out"], to=TensorProto.FLOAT16))(graph)
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def renamed_output(graph: onnx.GraphProto) -> None:
    """The output has another name than the manifest says."""
    after("logits", helper.make_node("Identity", ["in"], ["out"]))(graph)
    for node in graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    graph.output[0].name = "scores"
