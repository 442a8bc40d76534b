"""Export and verify as one step: what comes out is right, or nothing comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.errors import ParityError
from reformer_export.exporters.onnx import OnnxOptions, write_artifact
from reformer_export.manifest import write_manifest
from reformer_export.optional import require
from reformer_export.staging import stage


def to_onnx(
    checkpoint: str | Path,
    out: str | Path,
    *,
    verify: bool = True,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Artifact:
    """Export a checkpoint to an artifact folder and prove it right before it appears.

    Args:
        checkpoint: a Hugging Face directory or hub id.
        out: the folder to make.
        verify: run the artifact in onnxruntime beside the torch model and transformers' own.
        force: replace an artifact that is there.
        progress: told what is going on, a sentence at a time.
        options: fields of `OnnxOptions`: task, dtype, opset, max_length, num_buckets, hash_seed,
            ops, external_data, revision, ignore_config_keys.

    Returns:
        The artifact; with `verify`, its manifest holds the parity record.

    Raises:
        ParityError: the artifact does not give the model's numbers. Nothing is left of it.
        ReformerError: anything else that went wrong, likewise.
    """
    choices = OnnxOptions(**options)
    if verify:  # rather than after all the work
        require("onnxruntime", purpose="verifying the export (--no-verify leaves that out)")
    with stage(out, force=force) as folder:
        loaded = write_artifact(checkpoint, folder, choices, progress)
        if verify:
            from reformer_export.parity import verify_against

            staged = Artifact.open(folder)
            # What is in the file must hold where our kernels are not. The kernels take part all
            # the same: in torch, where they are installed.
            report = verify_against(staged, loaded, ops="portable", progress=progress)
            if not report.passed:
                raise ParityError(
                    f"the export of {checkpoint} does not give the model's numbers: "
                    f"{report.first_miss}; no artifact was written",
                    report.to_json(),
                )
            manifest = dataclasses.replace(staged.manifest, parity=report.to_json())
            write_manifest(folder, manifest)
    return Artifact.open(out)
