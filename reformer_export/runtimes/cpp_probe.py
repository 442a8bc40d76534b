"""Writes a copy of an artifact whose outputs include the hash buckets.

The C++ runtime has no function that reports buckets, but it returns all outputs that a manifest
lists. With this copy, it returns the buckets that a program without Python computes, with the same
reader and the same kernels.
"""

# No `from __future__ import annotations`: TorchScript reads the annotations themselves.

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    MODEL,
    ONNX,
    TORCHSCRIPT,
    record_files,
    write_manifest,
)
from reformer_export.artifact.signature import TensorSpec
from reformer_export.errors import RuntimeUnavailableError
from reformer_export.runtimes.onnx_probe import COMPUTED, probing_model

_AXES = ("batch", "heads", "num_hashes", "padded_length")


def write_probing_artifact(artifact: Artifact, format_name: str, folder: Path) -> int:
    """Write the copy into the empty `folder`, in one format; returns the number of LSH layers.

    Its outputs are those of the artifact and, for each LSH layer, `computed_buckets.<i>`, int32
    `[batch, heads, num_hashes, padded_length]`. Weights in separate files are linked.
    """
    layers = _WRITERS[format_name](artifact, folder)
    shown = tuple(TensorSpec(f"{COMPUTED}{layer}", "int32", _AXES) for layer in range(layers))
    signature = artifact.signature
    write_manifest(
        folder,
        dataclasses.replace(
            artifact.manifest,
            signature=dataclasses.replace(signature, outputs=signature.outputs + shown),
            files=record_files(folder),
            formats={format_name: artifact.manifest.formats[format_name]},
        ),
    )
    return layers


def _write_onnx(artifact: Artifact, folder: Path) -> int:
    import onnx_ir as ir

    model, layers = probing_model(artifact.format_path(ONNX), force=False)
    (folder / MODEL).write_bytes(ir.to_proto(model).SerializeToString())
    beside = set(artifact.manifest.files) - {MODEL}
    for name in beside - {record.file for record in artifact.manifest.formats.values()}:
        _link(artifact.path / name, folder / name)
    return layers


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # the target is on another file system
        shutil.copyfile(source, target)


def _write_torchscript(artifact: Artifact, folder: Path) -> int:
    import torch
    from torch import nn

    import reformer_ops.torch_ops  # noqa: F401  (registers torch.ops.reformer)

    class Shown(nn.Module):
        """The model with the buckets of `probe` among its outputs."""

        def __init__(self, model: torch.jit.ScriptModule) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, main_input: torch.Tensor, other: torch.Tensor | None = None
        ) -> dict[str, torch.Tensor]:
            outputs, buckets = self.model.probe(main_input, other)
            for layer in range(buckets.size(0)):
                outputs["computed_buckets." + str(layer)] = buckets[layer]
            return outputs

    try:
        model = torch.jit.load(str(artifact.format_path(TORCHSCRIPT)), map_location="cpu").eval()
        scripted = torch.jit.script(Shown(model))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RuntimeUnavailableError(
            f"{artifact.format_path(TORCHSCRIPT)} does not show its buckets: {reason}"
        ) from error
    scripted.save(str(folder / artifact.manifest.formats[TORCHSCRIPT].file))
    return len(artifact.manifest.hashing.rotations)


_WRITERS: dict[str, Callable[[Artifact, Path], int]] = {
    ONNX: _write_onnx,
    TORCHSCRIPT: _write_torchscript,
}
