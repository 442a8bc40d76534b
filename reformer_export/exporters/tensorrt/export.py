"""`to_tensorrt`: verify the graph, then build the engine from it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine
from reformer_export.artifact.signature import require_tokens
from reformer_export.artifact.staging import stage
from reformer_export.errors import ParityError
from reformer_export.exporters.base import Progress
from reformer_export.exporters.tensorrt.engine import (
    EnginePlan,
    TensorRTOptions,
    plan_engine,
    write_engine,
    write_graph,
)
from reformer_export.host.optional import require
from reformer_export.host.tensorrt_library import Log
from reformer_export.source import load_original


def to_tensorrt(
    artifact: str | Path,
    out: str | Path,
    *,
    verify: bool = True,
    against: str | Path | None = None,
    force: bool = False,
    flavor: str = "auto",
    dtype: str | None = None,
    min_shapes: Sequence[str] = (),
    opt_shapes: Sequence[str] = (),
    max_shapes: Sequence[str] = (),
    targets: Sequence[str] = (),
    workspace: int | None = None,
    ops: str = "portable",
    timing_cache: Path | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    progress: Progress | None = None,
    log: Log | None = None,
) -> Engine:
    """Build a TensorRT engine from an artifact, after verifying the graph that it is built from.

    The graph for TensorRT's parser is run in onnxruntime on the CPU and compared with the
    checkpoint. The engine itself runs only on GPUs and is not run here; its record says so.

    Args:
        artifact: the folder of an artifact.
        out: the folder to create, with `model.engine`, `engine.json` and the tokenizer.
        verify: compare the graph with the checkpoint that the artifact came from.
        against: the new location of that checkpoint, if it was moved.
        force: replace an existing engine.
        flavor: "rtx" (TensorRT-RTX, which builds without a GPU), "standard" (TensorRT, which builds
            on the GPU that the engine is for), or "auto": the one that is installed.
        dtype: "fp32", "fp16" or "bf16", of weights and activations; the artifact's if None.
        min_shapes: the smallest input of each profile, such as "input_ids:1x64".
        opt_shapes: the input that each profile is tuned for.
        max_shapes: the largest input of each profile.
        targets: GPUs to build for, such as "sm89" ("rtx" only); Ampere and later if empty.
        workspace: the maximum scratch memory on the GPU, in MB.
        ops: "portable": our operators become standard ones; "plugin": our kernels run them
            ("standard" only).
        timing_cache: a file with timings to reuse ("standard" only).
        version_compatible: build for later releases of TensorRT too ("standard" only).
        hardware_compatible: build for all GPUs since Ampere ("standard" only).
        progress: receives progress messages, one sentence at a time.
        log: receives TensorRT's log messages, one at a time.

    Raises:
        UsageError: the options cannot be built; raised before the work begins.
        ParityError: the graph's outputs differ too much from the model's. `out` does not change.
        ReformerError: any other failure. `out` does not change.
    """
    choices = TensorRTOptions(
        flavor=flavor,
        dtype=dtype,
        min_shapes=min_shapes,
        opt_shapes=opt_shapes,
        max_shapes=max_shapes,
        targets=targets,
        workspace=workspace,
        ops=ops,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
    )
    say = progress or (lambda message: None)
    say("checking the artifact")
    opened = Artifact.open(artifact)
    require_tokens(opened.signature, "to-tensorrt")
    plan = plan_engine(opened, choices)
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
    progress: Progress | None,
) -> Mapping[str, Any]:
    """Verify the graph; returns its parity record. ParityError if it fails."""
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
    """A description of what was verified and what was not."""
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
