"""Writes several graphs of one model and a single file with their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

_SMALLEST = 1024  # bytes; smaller tensors stay in the graph: runtimes need shapes and axes there


def save_sharing_weights(graphs: Mapping[str, ir.Model], folder: Path, weights: str) -> None:
    """Write graphs by the names of their files, and their weights to the file `weights`.

    Weights that several graphs have are stored once.
    """
    places: dict[tuple[str, tuple[int, ...], bytes], int] = {}
    tensors: list[ir.TensorProtocol] = []
    stored: list[tuple[ir.Value, int]] = []
    for graph in graphs.values():
        for value in graph.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < _SMALLEST:
                continue
            digest = hashlib.sha256(tensor.tobytes()).digest()
            key = (str(tensor.dtype), tuple(tensor.shape.numpy()), digest)
            if key not in places:
                places[key] = len(tensors)
                tensors.append(tensor)
            stored.append((value, places[key]))
    written = ir.external_data.convert_tensors_to_external(tensors, folder, weights)
    for value, place in stored:
        value.const_value = written[place]
    for name, graph in graphs.items():
        for value in graph.graph.initializers.values():
            value.shape = value.type = None  # as in `save_model`
        ir.save(graph, folder / name)
