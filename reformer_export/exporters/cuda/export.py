"""Writes `model.cuda`: kernels for NVIDIA GPUs, which ONNX Runtime's CUDA provider needs.

The file holds a program for each of our operators in model.onnx and each target. A program lists
kernel launches and their arguments, in order (`reformer_ops.triton_programs`). The file has the
layout of safetensors. Each kernel is two tensors of bytes, its cubin and its PTX; the programs are
JSON in the metadata. custom_ops/csrc/cuda/kernel_file.h reads the file.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    CUDA,
    MODEL,
    ONNX,
    FormatRecord,
    record_files,
    utc_now,
    write_manifest,
)
from reformer_export.artifact.merging import check_room, merge
from reformer_export.artifact.signature import require_tokens
from reformer_export.artifact.staging import stage
from reformer_export.errors import ArtifactError, UsageError
from reformer_export.exporters.cuda.kernel_folder import check_target
from reformer_export.exporters.cuda.kernel_folder import target as target_number
from reformer_export.host.device import DEFAULT_TARGETS
from reformer_export.host.optional import installed_versions, require
from reformer_ops.core.spec import DOMAIN, AttributeValue, OpSpec
from reformer_ops.registry import LINEAR, by_onnx_name

if TYPE_CHECKING:
    import onnx_ir as ir

    from reformer_ops.triton_programs import Program

KERNELS = "model.cuda"
KIND = "reformer-kernels"
SCHEMA_VERSION = 1

_PURPOSE = "compiling kernels for GPUs"
_PORTABLE = re.compile(r"^\.target sm_\d+\s*$", re.MULTILINE)
"""Matches targets without a letter. Those with a letter, such as sm_90a, are for one GPU only."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Operator:
    """The properties of an operator in a graph that determine its kernels."""

    op: OpSpec
    dtype: str
    attributes: tuple[tuple[str, AttributeValue], ...]
    sizes: tuple[tuple[str, int], ...]


def add_cuda_kernels(
    artifact: str | Path,
    *,
    targets: Sequence[str] = DEFAULT_TARGETS,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Add `model.cuda` to an artifact with model.onnx. No GPU is needed.

    Args:
        artifact: the folder.
        targets: GPUs to compile for: "sm90" is an H100 or H200.
        force: replace existing kernels.
        progress: receives progress messages.

    Raises:
        UsageError: a target is unknown or does not support the model's type; the artifact already
            has kernels and `force` is False; the model has none of our operators, or weights of
            fewer bits.
        ArtifactError: the folder is not a valid artifact, or has no model.onnx.
        MissingDependencyError: Triton is not installed.
    """
    check_targets(targets)
    opened = Artifact.open(artifact)
    require_tokens(opened.signature, "add-kernels")
    if ONNX not in opened.formats:
        raise ArtifactError(
            f"{opened.path} has no {MODEL}, which the kernels are for: add it with "
            "reformer-export to-onnx"
        )
    if weights := opened.manifest.weights:
        raise UsageError(
            f"{opened.path} has weights of {weights.type}, which our kernels for GPUs do not take: "
            "export the model without --weights"
        )
    check_room(artifact, CUDA, force=force)
    with stage(artifact, force=True) as folder:
        record = write_cuda_kernels(opened.format_path(ONNX), folder, targets, progress=progress)
        alone = dataclasses.replace(
            opened.manifest,
            formats={CUDA: record},
            files=record_files(folder),
            created=utc_now(),
        )
        write_manifest(folder, merge(opened, alone, folder, CUDA))
    return Artifact.open(artifact)


def check_targets(targets: Sequence[str]) -> None:
    """UsageError unless all targets can be compiled for; MissingDependencyError without Triton."""
    require("triton", purpose=_PURPOSE, package="reformer-export[triton]")
    if not targets:
        raise UsageError("name at least one GPU to compile kernels for, such as sm90")
    for name in targets:
        check_target(target_number(name))


def write_cuda_kernels(
    model: Path, folder: Path, targets: Sequence[str], *, progress: Progress | None = None
) -> FormatRecord:
    """Compile the kernels for the graph at `model` into `folder`/model.cuda.

    Raises the errors of `add_cuda_kernels`.
    """
    import onnx_ir as ir
    from safetensors.numpy import save_file

    from reformer_ops.triton_programs import make_program

    say = progress or (lambda message: None)
    operators = list(dict.fromkeys(_operators(ir.load(model).graph)))
    if not operators:
        raise UsageError(
            "kernels for GPUs are for our operators, and this model has none: export it without "
            "--ops portable"
        )
    images = _Images()
    programs = []
    for name in targets:
        number = target_number(name)
        for each in operators:
            check_target(number, each.dtype)
            say(f"compiling {each.op.name} for {name}")
            program = make_program(
                each.op,
                dtype=each.dtype,
                attributes=dict(each.attributes),
                sizes=dict(each.sizes),
                target=number,
            )
            programs.append(_program_as_json(program, number, images))
    document = {
        "schema_version": SCHEMA_VERSION,
        "domain": DOMAIN,
        "tools": _tools(),
        "programs": programs,
    }
    save_file(images.tensors(), folder / KERNELS, {KIND: json.dumps(document)})
    return FormatRecord(
        files=(KERNELS,), ops="native", tools=_tools(), machine={"targets": ", ".join(targets)}
    )


def _tools() -> dict[str, str]:
    return installed_versions("reformer-export", "triton")


def _operators(graph: ir.Graph) -> Iterator[_Operator]:
    """Every operator that has kernels for GPUs, with the constants that are compiled into them.

    GPUs have no kernels for the operators of `LINEAR` and run their bodies.
    """
    from reformer_ops.triton_programs import sizes_of

    for node in graph:
        if node.domain != DOMAIN:
            continue
        op = by_onnx_name(node.op_type)
        if op in LINEAR:
            continue
        shapes = {}
        dtype = None
        for operand, value in zip(op.inputs, node.inputs, strict=True):
            if value is None or value.shape is None or value.dtype is None:
                raise ArtifactError(f"the shape of {operand.name} of {node.name} is not known")
            shapes[operand.name] = tuple(value.shape)
            if operand.dtype == "float":
                dtype = value.dtype.numpy().name
        sizes = sizes_of(op, shapes)
        if open_axes := [name for name, size in sizes.items() if not isinstance(size, int)]:
            raise ArtifactError(
                f"{node.name} has no fixed {', '.join(open_axes)}, which its kernels need"
            )
        attributes = {a.name: node.attributes[a.name].value for a in op.attributes}
        yield _Operator(
            op,
            str(dtype),
            tuple(
                (name, tuple(value) if isinstance(value, Sequence) else value)
                for name, value in attributes.items()
            ),
            tuple(sizes.items()),
        )


class _Images:
    """Compiled kernels by name; the same kernel for the same GPU is stored once."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._bytes: dict[str, bytes] = {}

    def add(self, entry: str, target: int, ptx: str, cubin: bytes) -> str:
        """Store a kernel; returns its name."""
        if ptx not in self._names:
            name = f"sm{target}.{entry}.{len(self._names)}"
            self._names[ptx] = name
            self._bytes[f"{name}.ptx"] = ptx.encode()
            self._bytes[f"{name}.cubin"] = cubin
        return self._names[ptx]

    def tensors(self) -> dict[str, Any]:
        """The kernels as tensors for safetensors."""
        return {name: np.frombuffer(data, np.uint8) for name, data in self._bytes.items()}


def _program_as_json(program: Program, target: int, images: _Images) -> dict[str, Any]:
    from reformer_ops.triton.compile import compile_launch
    from reformer_ops.triton.launch import Grid

    def amount(grid: Grid) -> dict[str, int]:
        return {"times": grid.times, "multiplier": grid.multiplier, "divisor": grid.divisor}

    launches = []
    portable = True
    for step in program.steps:
        compiled = compile_launch(step.launch, target)
        portable = portable and _PORTABLE.search(compiled.ptx) is not None
        launches.append(
            {
                "entry": compiled.entry,
                "image": images.add(compiled.entry, target, compiled.ptx, compiled.cubin),
                # Triton adds two last parameters, pointers to memory that our kernels do not use.
                "arguments": [*step.arguments(), None, None],
                "programs": amount(step.launch.grid),
                "threads": 32 * compiled.num_warps,
                "shared_bytes": compiled.shared_bytes,
                "shortest": step.shortest,
                "longest": step.longest,
            }
        )
    return {
        "operator": program.op.name,
        "version": program.op.version,
        "dtype": program.dtype,
        "target": target,
        "portable": portable,
        "attributes": _as_json(program.attributes),
        "sizes": dict(program.sizes),
        "scratch": {name: amount(grid) for name, grid in program.scratch.items()},
        "launches": launches,
    }


def _as_json(attributes: Mapping[str, AttributeValue]) -> dict[str, int | list[int]]:
    """Attributes as integers; a float becomes its fp32 bits."""

    def plain(value: AttributeValue) -> int | list[int]:
        if isinstance(value, float):
            return int(np.float32(value).view(np.uint32))
        if isinstance(value, str):
            raise TypeError(f"kernels of GPUs take no text, such as {value!r}")
        return int(value) if isinstance(value, int) else list(value)

    return {name: plain(value) for name, value in attributes.items()}
