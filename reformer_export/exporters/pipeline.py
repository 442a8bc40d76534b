"""Exports in any format: load, write, verify, and only then move the artifact to its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    Manifest,
    WeightsRecord,
    record_files,
    write_manifest,
)
from reformer_export.artifact.merging import check_room, check_same_model, merge
from reformer_export.artifact.staging import stage
from reformer_export.errors import ParityError, UsageError
from reformer_export.exporters.base import ExportOptions, Format, Progress, draft_manifest
from reformer_export.exporters.checkpoint_files import copy_checkpoint_files, write_config
from reformer_export.host.optional import require

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel


def export(
    format: Format,
    checkpoint: str | Path,
    out: str | Path,
    options: ExportOptions,
    *,
    verify: bool,
    force: bool,
    progress: Progress | None,
) -> Artifact:
    """Export a checkpoint in one format to an artifact folder; see `reformer_export.to_onnx`.

    Raises:
        ParityError: the artifact's outputs differ too much from the model's. `out` does not change.
        ReformerError: any other failure. `out` does not change.
    """
    say = progress or (lambda message: None)
    if verify:  # fail now, not after all the work
        require(format.package, purpose="verifying the export (--no-verify leaves that out)")
    beside = check_room(out, format.name, force=force)
    with stage(out, force=force or beside) as folder:
        say(f"loading {checkpoint}")
        loaded = options.load(checkpoint)
        format.check_task(loaded.task)
        draft = draft_manifest(loaded, options)
        _check_max_loss(draft, options)
        if beside:
            check_same_model(Artifact.open(out).manifest, draft, out, force=force)
        manifest = write_artifact(format, loaded, draft, folder, options, say)
        if verify:
            manifest = _verified(format, loaded, manifest, folder, checkpoint, progress)
        asked = options.calibration is not None or options.max_loss is not None
        if manifest.weights is not None and (verify or asked):
            record = _measured(manifest.weights, loaded, manifest, folder, checkpoint, options, say)
            manifest = dataclasses.replace(manifest, weights=record)
        if beside:
            manifest = merge(Artifact.open(out), manifest, folder, format.name)
        write_manifest(folder, manifest)
    return Artifact.open(out)


def write_artifact(
    format: Format,
    loaded: LoadedModel,
    draft: Manifest,
    folder: Path,
    options: ExportOptions,
    say: Progress,
) -> Manifest:
    """Write an artifact with only this format into an empty folder; returns its manifest.

    Raises:
        ReformerError: the format's own errors.
    """
    copy_checkpoint_files(loaded.checkpoint.directory, folder)
    write_config(loaded.checkpoint, folder)
    formats = format.write(loaded, draft.signature, folder, options, say)
    manifest = dataclasses.replace(draft, formats=formats, files=record_files(folder))
    write_manifest(folder, manifest)
    return manifest


def _verified(
    format: Format,
    loaded: LoadedModel,
    manifest: Manifest,
    folder: Path,
    checkpoint: str | Path,
    progress: Progress | None,
) -> Manifest:
    """Verify the artifact; returns the manifest with the parity record. ParityError if it fails."""
    from reformer_export.verification.parity import verify_against

    report = verify_against(
        Artifact.open(folder),
        loaded,
        runtime=format.runtime,
        ops=format.verify_ops,
        progress=progress,
    )
    if not report.passed:
        raise ParityError(
            f"the export of {checkpoint} does not give the model's numbers: "
            f"{report.first_miss}; no artifact was written",
            report.to_json(),
        )
    record = dataclasses.replace(manifest.formats[format.name], parity=report.to_json())
    return dataclasses.replace(manifest, formats={**manifest.formats, format.name: record})


def _check_max_loss(draft: Manifest, options: ExportOptions) -> None:
    """UsageError if `max_loss` is given for a model without a loss."""
    from reformer_export.quality import has_loss

    if options.max_loss is not None and not has_loss(draft.task, draft.signature):
        raise UsageError(
            "--max-loss bounds the bits for each token, which only text-generation has, with "
            f"--logits all; this model is for {draft.task}: leave it out"
        )


def _measured(
    weights: WeightsRecord,
    loaded: LoadedModel,
    manifest: Manifest,
    folder: Path,
    checkpoint: str | Path,
    options: ExportOptions,
    say: Progress,
) -> WeightsRecord:
    """Measure the quality; returns its record. ParityError if the loss is above `max_loss`."""
    from reformer_export.quality import measure_quality, own_samples, read_samples

    say("comparing with the weights of all bits")
    full = dataclasses.replace(
        options, weights=None, keep=(), calibration=None, max_loss=None
    ).load(checkpoint)
    artifact = Artifact.open(folder)
    if options.calibration is None:
        samples = own_samples(full, manifest.signature)
    else:
        samples = read_samples(options.calibration, artifact, tokenizer=options.tokenizer)
    quality = measure_quality(full, loaded, manifest.signature, samples)
    loss = quality.loss
    if options.max_loss is not None and loss is not None and not loss <= options.max_loss:
        raise ParityError(
            f"weights of {weights.type} cost {loss:.2%} more bits for each token, and --max-loss "
            f"allows {options.max_loss:.2%}: keep some with --keep; no artifact was written",
            quality.to_json(),
        )
    return dataclasses.replace(weights, quality=quality.to_json())
