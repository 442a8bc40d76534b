"""Export and verify as one step: what comes out is right, or nothing comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.errors import ParityError
from reformer_export.exporters.aoti import TOOLS as AOTI_TOOLS
from reformer_export.exporters.aoti import AotiOptions, write_aoti
from reformer_export.exporters.base import ExportOptions, draft_manifest
from reformer_export.exporters.onnx import TOOLS as ONNX_TOOLS
from reformer_export.exporters.onnx import OnnxOptions, write_onnx
from reformer_export.exporters.torchscript import TOOLS as TORCHSCRIPT_TOOLS
from reformer_export.exporters.torchscript import TorchScriptOptions, write_torchscript
from reformer_export.manifest import AOTI, ONNX, TORCHSCRIPT, Manifest, write_manifest
from reformer_export.merging import check_room, check_same_model, merge
from reformer_export.optional import require
from reformer_export.staging import stage
from reformer_ops.native import Choice

Progress = Callable[[str], None]


def to_onnx(
    checkpoint: str | Path,
    out: str | Path,
    *,
    verify: bool = True,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Artifact:
    """Export a checkpoint to an artifact folder and prove it right before it appears.

    Args:
        checkpoint: a Hugging Face directory or hub id.
        out: the folder to make, or an artifact of the same checkpoint to add model.onnx to.
        verify: run the artifact in onnxruntime beside the torch model and transformers' own.
        force: replace model.onnx in an artifact that is there; all of it, when it was made from
            another checkpoint or with other options about the model.
        progress: told what is going on, a sentence at a time.
        options: fields of `OnnxOptions`: task, dtype, opset, max_length, num_buckets, hash_seed,
            ops, external_data, revision, ignore_config_keys.

    Returns:
        The artifact; with `verify`, its manifest holds the parity record.

    Raises:
        ParityError: the artifact does not give the model's numbers. Nothing is left of it.
        ReformerError: anything else that went wrong, likewise.
    """
    # What is in the file must hold where our kernels are not. The kernels take part all the same:
    # in torch, where they are installed.
    target = _Target(ONNX, "onnxruntime", "onnxruntime", ONNX_TOOLS, write_onnx, "portable")
    return _export(checkpoint, out, target, OnnxOptions(**options), verify, force, progress)


def to_torchscript(
    checkpoint: str | Path,
    out: str | Path,
    *,
    verify: bool = True,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Artifact:
    """Export a checkpoint to model.pt in an artifact folder; `to_onnx` says how.

    `options` are fields of `TorchScriptOptions`: task, dtype, max_length, num_buckets, hash_seed,
    ops, revision, ignore_config_keys.
    """
    target = _Target(TORCHSCRIPT, "torchscript", "torch", TORCHSCRIPT_TOOLS, write_torchscript)
    return _export(checkpoint, out, target, TorchScriptOptions(**options), verify, force, progress)


def to_aoti(
    checkpoint: str | Path,
    out: str | Path,
    *,
    verify: bool = True,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Artifact:
    """Export a checkpoint to model.pt2 in an artifact folder; `to_onnx` says how.

    `options` are fields of `AotiOptions`: task, dtype, max_length, num_buckets, hash_seed, ops,
    isa, revision, ignore_config_keys.
    """
    target = _Target(AOTI, "aoti", "torch", AOTI_TOOLS, write_aoti)
    return _export(checkpoint, out, target, AotiOptions(**options), verify, force, progress)


@dataclass(frozen=True)
class _Target:
    """A format: what writes it, and what runs it when it is verified."""

    format: str
    runtime: str
    module: str
    tools: tuple[str, ...]
    write: Callable[..., Manifest]
    verified_with: Choice = "auto"


def _export(
    checkpoint: str | Path,
    out: str | Path,
    target: _Target,
    options: ExportOptions,
    verify: bool,
    force: bool,
    progress: Progress | None,
) -> Artifact:
    say = progress or (lambda message: None)
    if verify:  # rather than after all the work
        require(target.module, purpose="verifying the export (--no-verify leaves that out)")
    beside = check_room(out, target.format, force=force)
    with stage(out, force=force or beside) as folder:
        say(f"loading {checkpoint}")
        loaded = options.load(checkpoint)
        draft = draft_manifest(loaded, options, target.tools)
        if beside:
            check_same_model(Artifact.open(out).manifest, draft, out, force=force)
        manifest = target.write(loaded, draft, folder, options, say)
        if verify:
            from reformer_export.parity import verify_against

            report = verify_against(
                Artifact.open(folder),
                loaded,
                runtime=target.runtime,
                ops=target.verified_with,
                progress=progress,
            )
            if not report.passed:
                raise ParityError(
                    f"the export of {checkpoint} does not give the model's numbers: "
                    f"{report.first_miss}; no artifact was written",
                    report.to_json(),
                )
            manifest = _with_record(manifest, target.format, report.to_json())
        if beside:
            manifest = merge(Artifact.open(out), manifest, folder, target.format)
        write_manifest(folder, manifest)
    return Artifact.open(out)


def _with_record(manifest: Manifest, name: str, record: dict[str, Any]) -> Manifest:
    if name == ONNX:
        return dataclasses.replace(manifest, parity=record)
    entry = dataclasses.replace(manifest.formats[name], parity=record)
    return dataclasses.replace(manifest, formats={**manifest.formats, name: entry})
