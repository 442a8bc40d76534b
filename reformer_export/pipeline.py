"""Export and verify as one step: what comes out is right, or nothing comes out."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine
from reformer_export.artifact.manifest import AOTI, ONNX, TORCHSCRIPT, Manifest, write_manifest
from reformer_export.artifact.merging import check_room, check_same_model, merge
from reformer_export.artifact.staging import stage
from reformer_export.errors import ParityError
from reformer_export.exporters.base import ExportOptions, draft_manifest
from reformer_export.exporters.onnx.export import TOOLS as ONNX_TOOLS
from reformer_export.exporters.onnx.export import OnnxOptions, write_onnx
from reformer_export.exporters.tensorrt.export import (
    EnginePlan,
    TensorRTOptions,
    plan_engine,
    write_engine,
    write_graph,
)
from reformer_export.exporters.torch.aoti import TOOLS as AOTI_TOOLS
from reformer_export.exporters.torch.aoti import AotiOptions, write_aoti
from reformer_export.exporters.torch.torchscript import TOOLS as TORCHSCRIPT_TOOLS
from reformer_export.exporters.torch.torchscript import TorchScriptOptions, write_torchscript
from reformer_export.host.optional import require
from reformer_export.source import load_original
from reformer_ops.core.native import Choice

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
            ops, external_data, cuda, revision, ignore_config_keys.

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
            from reformer_export.verification.parity import verify_against

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


def to_tensorrt(
    artifact: str | Path,
    out: str | Path,
    *,
    verify: bool = True,
    against: str | Path | None = None,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
    log: Callable[[str], None] | None = None,
    **options: Any,
) -> Engine:
    """Build a TensorRT engine from an artifact, after proving the graph it is built from.

    What TensorRT's parser gets is run in onnxruntime on the CPU and held to the parity law. The
    engine itself needs a GPU to run, and nothing here runs on one; its record says so.

    Args:
        artifact: the folder of an artifact.
        out: the folder to make: `model.engine`, `engine.json` and the tokenizer.
        verify: compare the graph with the checkpoint the artifact came from.
        against: where that checkpoint is now, when it is not where it was.
        force: replace an engine that is there.
        progress: told what is going on, a sentence at a time.
        log: told what TensorRT logs, a message at a time.
        options: fields of `TensorRTOptions`: flavor, dtype, min_shapes, opt_shapes, max_shapes,
            targets, workspace, ops, timing_cache, version_compatible, hardware_compatible.

    Raises:
        UsageError: what was asked for cannot be built; said before work begins.
        ParityError: the graph does not give the model's numbers. Nothing is left of it.
        ReformerError: anything else that went wrong, likewise.
    """
    choices = TensorRTOptions(**options)
    say = progress or (lambda message: None)
    say("checking the artifact")
    plan = plan_engine(Artifact.open(artifact), choices)
    if verify:
        require("onnxruntime", purpose="verifying the graph (--no-verify leaves that out)")
    with stage(out, force=force) as folder, tempfile.TemporaryDirectory() as scratch:
        say(f"writing the graph for {plan.library}")
        graph = write_graph(plan, Path(scratch) / "graph")
        parity = _verify_graph(plan, graph, against, progress) if verify else None
        write_engine(
            plan, graph, folder, evidence=_evidence(plan, parity), parity=parity,
            progress=say, log=log,
        )  # fmt: skip
    return Engine.open(out)


def _verify_graph(
    plan: EnginePlan,
    graph: Artifact,
    against: str | Path | None,
    progress: Callable[[str], None] | None,
) -> Mapping[str, Any]:
    """The parity record of the graph; ParityError when it misses."""
    from reformer_export.verification.parity import verify_against

    loaded = load_original(graph.manifest, against)
    report = verify_against(graph, loaded, ops="portable", progress=progress)
    if not report.passed:
        raise ParityError(
            f"the {plan.dtype} graph for {plan.library} does not give the model's numbers: "
            f"{report.first_miss}; no engine was built",
            report.to_json(),
        )
    return report.to_json()


def _evidence(plan: EnginePlan, parity: Mapping[str, Any] | None) -> str:
    """What is known of the engine's numbers, and what is not."""
    ran = "The engine was built and not run: nothing here ran on a GPU."
    if parity is None:
        return f"Its graph was not verified (--no-verify). {ran}"
    how = {
        "fp32": "",
        "fp16": " (where it may compute an operation in fp32 and round the result)",
        "bf16": " with every bf16 tensor held in fp32 and rounded to bf16 by the operation that "
        "makes it, since onnxruntime has no bf16 kernels there",
    }[plan.dtype]
    plugins = (
        " What was run has the operators in standard ONNX; the engine has plugins in their place."
        if plan.ops == "plugin"
        else ""
    )
    return (
        "The graph that TensorRT parsed gives the model's numbers in onnxruntime on the "
        f"CPU{how}.{plugins} {ran}"
    )


def _with_record(manifest: Manifest, name: str, record: dict[str, Any]) -> Manifest:
    if name == ONNX:
        return dataclasses.replace(manifest, parity=record)
    entry = dataclasses.replace(manifest.formats[name], parity=record)
    return dataclasses.replace(manifest, formats={**manifest.formats, name: entry})
