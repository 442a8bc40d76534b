"""Turns the graphs of an artifact into graphs of standard operators that share one file of
weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    DECODER,
    DECODER_FILES,
    MODEL,
    ONNX,
    FormatRecord,
    Manifest,
)
from reformer_export.exporters.onnx.linear import write_linear_out
from reformer_export.exporters.onnx.lint import lint
from reformer_export.exporters.onnx.passes import inline_bodies, write_norms_out
from reformer_export.exporters.onnx.saving import save_sharing_weights

WEIGHTS = f"{MODEL}_data"
_FLOAT_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16}


def write_portable_graphs(artifact: Artifact, folder: Path) -> dict[str, FormatRecord]:
    """Write model.onnx and, if the artifact can generate, the decoder's graphs into `folder`.

    ONNX Runtime Web runs standard operators faster than the same operators in function bodies. A
    weight is stored once, because a browser must download it.

    Args:
        artifact: an ONNX artifact of type fp32 or fp16.
        folder: receives the graphs and model.onnx_data.

    Returns:
        The records of the formats, by name.

    Raises:
        ExportError: a graph has a node that no plain runtime can run.
    """
    manifest = artifact.manifest
    names: dict[str, tuple[str, ...]] = {ONNX: (MODEL,)}
    if DECODER in manifest.formats:
        names[DECODER] = DECODER_FILES
    graphs = {
        target: _portable(artifact.path / source, manifest)
        for name, targets in names.items()
        for source, target in zip(manifest.formats[name].files, targets, strict=False)
    }
    save_sharing_weights(graphs, folder, WEIGHTS)
    return {
        name: dataclasses.replace(
            manifest.formats[name], files=(*targets, WEIGHTS), ops="portable", parity=None
        )
        for name, targets in names.items()
    }


def _portable(path: Path, manifest: Manifest) -> ir.Model:
    """The graph of a file with standard operators only; as it is if it has no others."""
    model = ir.load(path)
    write_norms_out(model)
    if manifest.weights is None:  # weights of 8 bits keep their layout
        write_linear_out(model)
    inline_bodies(model, _FLOAT_TYPES[manifest.dtype])
    common_passes.RemoveUnusedNodesPass()(model)
    lint(model, for_tensorrt=False)
    return model
