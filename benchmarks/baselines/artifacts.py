"""Exports a choice to an artifact, by the same path as all our models."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from benchmarks.baselines.choices import Choice, Skeleton
from reformer_export.artifact.staging import stage
from reformer_export.exporters.base import draft_manifest
from reformer_export.exporters.onnx.export import FORMAT, OnnxOptions
from reformer_export.exporters.pipeline import write_artifact
from reformer_export.source import create_model, save_checkpoint


def export_choice(choice: Choice, skeleton: Skeleton, folder: Path, *, seed: int = 0) -> Path:
    """Make a checkpoint of the skeleton with random weights and export it with this attention.

    The artifact's manifest notes that the attention was exchanged. Additional weights of a choice
    are only in `model.onnx_data`.

    Args:
        folder: receives "checkpoint" and "artifact"; its former content is deleted.
        seed: the seed of the weights.

    Returns:
        The artifact.

    Raises:
        ReformerError: the export failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint, artifact = folder / "checkpoint", folder / "artifact"
    task = "text-generation" if choice.causal else "fill-mask"
    config = skeleton.config(choice.kind, causal=choice.causal)
    save_checkpoint(create_model(config, task, seed=seed), checkpoint)
    options = OnnxOptions(external_data=True)
    loaded = options.load(checkpoint)
    choice.install(loaded.model, skeleton)
    if choice.replace is not None:
        note = f"the self-attention of every layer was exchanged for {choice.title}"
        loaded = dataclasses.replace(loaded, notes=(*loaded.notes, note))
    with stage(artifact) as staged:
        draft = draft_manifest(loaded, options)
        write_artifact(FORMAT, loaded, draft, staged, options, lambda message: None)
    return artifact
