"""Writes a model repository for NVIDIA Triton Inference Server."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import AOTI, ONNX, TORCHSCRIPT
from reformer_export.artifact.signature import TensorSpec, require_tokens
from reformer_export.artifact.staging import stage
from reformer_export.errors import UsageError
from reformer_export.host.device import CPU, CUDA
from reformer_ops.core.errors import NativeLibraryError
from reformer_ops.core.native import CHOICES, Choice, library_path

_TYPES = {
    "bool": "TYPE_BOOL",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
}
_VERSION = "1"
_CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Request:
    """What `to_triton` is asked for; see there."""

    artifact: Artifact
    name: str
    ops: Choice
    device: str
    instances: int
    max_batch: int
    threads: int | None
    seen_at: Path


@dataclass(frozen=True)
class Backend:
    """A backend of Triton that runs a format of an artifact.

    Attributes:
        format: the format.
        platform: the lines of the config that choose the backend.
        by_position: whether inputs and outputs are named by position (INPUT__0).
        write: writes the model into the folder of its version; yields more lines for the config.
    """

    format: str
    platform: dict[str, str]
    by_position: bool
    write: Callable[[Request, Path], Iterator[tuple[str, Any]]]


@dataclass(frozen=True)
class TritonModel:
    """A model in a repository.

    Attributes:
        path: its folder in the repository.
        backend: a name of `BACKENDS`.
        operators: "native" or "portable".
        library: where the server expects the library of our operators; None if it needs none.
    """

    path: Path
    backend: str
    operators: str
    library: Path | None

    def to_json(self) -> dict[str, Any]:
        """The model as a document."""
        return dict(vars(self))

    def rows(self) -> Iterator[tuple[str, str]]:
        """The model as (label, text) lines for people."""
        yield "model", str(self.path)
        yield "backend", f"{self.backend}, {self.operators} operators"
        if self.library is not None:
            yield "library", f"{self.library}, as the server sees it"


def to_triton(
    artifact: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    *,
    name: str | None = None,
    backend: str = "auto",
    ops: Choice = "auto",
    device: str = CPU,
    instances: int = 1,
    max_batch: int = 8,
    threads: int | None = None,
    seen_at: str | os.PathLike[str] | None = None,
) -> TritonModel:
    """Add an artifact's model to a model repository for Triton; it appears there as a whole.

    Triton puts requests into a batch only if their shapes are equal, which keeps a Reformer's
    numbers.

    Args:
        artifact: the folder.
        repository: the repository; it is created if it does not exist.
        name: the model's name; the name of the folder by default.
        backend: a name of `BACKENDS`; "auto" for the first whose format the artifact holds.
        ops: "native" adds the library of our operators (ONNX on the CPU), "portable" uses standard
            operators, "auto" is "native" where that is possible.
        device: "cpu" or "cuda".
        instances: how many copies of the model run at the same time.
        max_batch: the maximum number of sequences in a batch.
        threads: the CPU threads of an instance; if None, the backend chooses.
        seen_at: the path of the repository for the server, such as the path of a mounted volume.

    Raises:
        UsageError: the artifact does not hold the format, it needs a library that Triton cannot
            load, or the model exists already.
        ArtifactError: the folder is not a valid artifact.
        NativeLibraryError: `ops` is "native", and there is no library.
        ExportError: the disk is full.
    """
    opened = Artifact.open(Path(artifact))
    require_tokens(opened.signature, "to-triton")
    chosen = _backend(opened, backend)
    if device not in (CPU, CUDA):
        raise UsageError(f"unknown device {device!r}: choose {CPU} or {CUDA}")
    if ops not in CHOICES:
        raise UsageError(f"unknown operators {ops!r}: choose one of {', '.join(CHOICES)}")
    name = opened.path.name if name is None else name
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise UsageError(f"--name {name!r}: use letters, digits, '-', '_' and '.'")
    target = Path(repository) / name
    if os.path.lexists(target):
        raise UsageError(f"{target} exists: choose another --name, or remove it")
    seen = Path(repository).resolve() if seen_at is None else Path(seen_at)
    request = Request(
        opened, name, ops, device, instances, max_batch, threads, seen / name / _VERSION
    )
    with stage(target) as folder:
        (folder / _VERSION).mkdir()
        further = list(BACKENDS[chosen].write(request, folder / _VERSION))
        document = [*_document(request, BACKENDS[chosen]), *further]
        (folder / _CONFIG).write_text(_text(document), encoding="utf-8")
    libraries = [value for key, value in further if key == "model_operations"]
    library = Path(libraries[0][0][1]) if libraries else None
    return TritonModel(target, chosen, "native" if library else "portable", library)


def _backend(artifact: Artifact, name: str) -> str:
    if name not in ("auto", *BACKENDS):
        raise UsageError(f"unknown backend {name!r}: choose auto or {', '.join(BACKENDS)}")
    if name == "auto":
        for key, each in BACKENDS.items():
            if each.format in artifact.formats:
                return key
        needed = ", ".join(each.format for each in BACKENDS.values())
        raise UsageError(f"{artifact.path} holds none of {needed}: add one of them")
    if (wanted := BACKENDS[name].format) not in artifact.formats:
        raise UsageError(
            f"{artifact.path} holds no {wanted}, but {' and '.join(artifact.formats)}: "
            "choose another --backend"
        )
    return name


def _document(request: Request, backend: Backend) -> Iterator[tuple[str, Any]]:
    """The fields of a ModelConfig in order; a repeated field occurs several times."""
    signature = request.artifact.signature
    yield "name", request.name
    yield from backend.platform.items()
    yield "max_batch_size", request.max_batch
    for key, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for index, spec in enumerate(specs):
            name = f"{key.upper()}__{index}" if backend.by_position else spec.name
            yield key, list(_tensor(name, spec))
    kind = "KIND_GPU" if request.device == CUDA else "KIND_CPU"
    yield "instance_group", [("count", request.instances), ("kind", _Word(kind))]
    yield "dynamic_batching", []


def _tensor(name: str, spec: TensorSpec) -> Iterator[tuple[str, Any]]:
    yield "name", name
    yield "data_type", _Word(_TYPES[spec.dtype])
    for axis in spec.axes[1:]:  # the first is the batch
        yield "dims", axis if isinstance(axis, int) else -1


def _parameter(key: str, value: object) -> tuple[str, Any]:
    return "parameters", [("key", key), ("value", [("string_value", str(value))])]


class _Word(str):
    """A name of an enumeration, which is written without quotes."""


def _text(document: list[tuple[str, Any]], indent: str = "") -> str:
    """A message in protobuf's text format."""
    lines = []
    for key, value in document:
        if isinstance(value, list):
            inner = _text(value, f"{indent}  ")
            lines.append(f"{indent}{key} {{\n{inner}{indent}}}\n" if inner else f"{key} {{}}\n")
        elif isinstance(value, str) and not isinstance(value, _Word):
            lines.append(f"{indent}{key}: {json.dumps(value)}\n")
        else:
            lines.append(f"{indent}{key}: {value}\n")
    return "".join(lines)


# The formats


def _write_onnx(request: Request, folder: Path) -> Iterator[tuple[str, Any]]:
    artifact = request.artifact
    for name in artifact.manifest.formats[ONNX].files:
        shutil.copyfile(artifact.path / name, folder / name)
    if artifact.format_path(ONNX).name != "model.onnx":
        raise UsageError(f"{artifact.path} is of an older release: export the model again")
    if (library := _library(request)) is not None:
        shutil.copyfile(library, folder / library.name)
        yield "model_operations", [("op_library_filename", str(request.seen_at / library.name))]
    yield _parameter("enable_mem_pattern", 0)  # as in reformer_ops.session_options()
    if request.threads is not None:
        yield _parameter("intra_op_thread_count", request.threads)


def _library(request: Request) -> Path | None:
    """The library of our operators; None if the function bodies in the file are to run."""
    reason = None
    if request.artifact.manifest.formats[ONNX].ops == "portable":
        reason = "it was exported with --ops portable"
    elif request.device == CUDA:
        reason = "our GPU kernels need a session option that Triton cannot set"
    elif request.artifact.manifest.dtype == "bf16":
        reason = "no CPU kernel takes bf16"
    if reason is not None:
        if request.ops == "native":
            raise UsageError(f"{request.artifact.path} cannot run native operators: {reason}")
        return None
    if request.ops == "portable":
        return None
    try:
        return library_path("ort")
    except NativeLibraryError:
        if request.ops == "native":
            raise
        return None


def _write_torchscript(request: Request, folder: Path) -> Iterator[tuple[str, Any]]:
    _check_portable(request, TORCHSCRIPT, "to-torchscript")
    import torch

    names = [spec.name for spec in request.artifact.signature.outputs]
    module = torch.nn.Module()
    module.model = torch.jit.load(str(request.artifact.format_path(TORCHSCRIPT)), "cpu")
    wrapper = torch.jit.script(module)
    # model.pt returns a dictionary; Triton takes a tensor or a tuple.
    returned = ", ".join(f"outputs[{json.dumps(name)}]" for name in names)
    wrapper.define(
        "def forward(self, input_ids: Tensor, attention_mask: Tensor):\n"
        "    outputs = self.model(input_ids, attention_mask)\n"
        f"    return {returned}\n"
    )
    wrapper.save(str(folder / "model.pt"))
    if request.threads is not None:
        yield _parameter("INTRA_OP_THREAD_COUNT", request.threads)


def _write_aoti(request: Request, folder: Path) -> Iterator[tuple[str, Any]]:
    _check_portable(request, AOTI, "to-aoti")
    if request.device == CUDA:
        raise UsageError("model.pt2 is compiled for the CPU: leave out --device")
    shutil.copyfile(request.artifact.format_path(AOTI), folder / "model.pt2")
    yield from ()


def _check_portable(request: Request, format_name: str, verb: str) -> None:
    found = request.artifact.manifest.formats[format_name].ops
    if found != "portable" or request.ops == "native":
        raise UsageError(
            f"Triton's PyTorch backend does not load our operators, so it cannot run {format_name} "
            f"with them: export with reformer-export {verb} --ops portable"
        )


BACKENDS: dict[str, Backend] = {
    "onnxruntime": Backend(ONNX, {"backend": "onnxruntime"}, False, _write_onnx),
    "torchscript": Backend(TORCHSCRIPT, {"platform": "pytorch_libtorch"}, True, _write_torchscript),
    "aoti": Backend(AOTI, {"platform": "torch_aoti"}, True, _write_aoti),
}
"""The backends of Triton by the name of our runtime, best first."""
