"""Functions shared by the runtimes that load a compiled model into torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import TORCHSCRIPT
from reformer_export.errors import DeviceUnavailableError, RuntimeUnavailableError, UsageError
from reformer_export.host.device import CUDA, Device
from reformer_export.runtimes.base import Array, Arrays
from reformer_ops import library_path, native_status
from reformer_ops.core.native import Choice, requested
from reformer_ops.registry import ALL

if TYPE_CHECKING:
    from reformer_export.artifact.signature import Signature


def prepare_operators(artifact: Artifact, name: str, ops: Choice) -> str:
    """Register the operators that a file needs; returns the implementation that runs, as text.

    Raises:
        UsageError: `ops` requests operators with which the file cannot run.
        NativeLibraryError: native operators are requested, and they are missing or do not load.
        RuntimeUnavailableError: this release does not know the operators, or requested native
            operators do not run.
    """
    record = artifact.manifest.formats[name]
    choice = requested() if ops == "auto" else ops
    again = f"export with to-{name} --ops"
    if record.ops == "portable":
        if choice == "native":
            raise UsageError(
                f"the native operators cannot run {record.file} of {artifact.path}: it was "
                f"exported with --ops portable; {again} native"
            )
        return "portable operators"
    ours = {op.name: op.version for op in ALL}
    used = {**artifact.manifest.ops.versions, **record.details.get("ops", {})}
    strange = sorted(used.items() - ours.items())
    if strange:
        found = ", ".join(f"{op} version {version}" for op, version in strange)
        raise RuntimeUnavailableError(
            f"{record.file} of {artifact.path} has {found}, which this release does not know: "
            f"{again} portable"
        )
    import reformer_ops.torch_ops  # noqa: F401  (registers torch.ops.reformer)

    status = native_status("torch")
    if choice == "native" and not status.available:
        library_path("torch")  # raises with the searched places if the library is missing
        raise RuntimeUnavailableError(f"the native operators do not run: {status.reason}")
    if choice == "portable" and status.available:
        raise UsageError(
            f"{record.file} of {artifact.path} runs our operators by whatever this process has, "
            f"which is {status}: {again} portable, or set REFORMER_OPS=portable"
        )
    return str(status)


def load_script(artifact: Artifact) -> torch.jit.ScriptModule:
    """The module in model.pt.

    Raises:
        RuntimeUnavailableError: this torch cannot load it.
    """
    path = artifact.format_path(TORCHSCRIPT)
    try:
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RuntimeUnavailableError(
            f"torch {torch.__version__} cannot load {path}: {' '.join(reason[0].split())}"
        ) from error
    return module


def torch_device(device: Device) -> torch.device:
    """The device in torch; raises DeviceUnavailableError if this torch has no such GPU."""
    if device.kind == CUDA and device.index >= torch.cuda.device_count():
        raise DeviceUnavailableError(
            f"torch {torch.__version__} sees {torch.cuda.device_count()} GPUs, and {device} was "
            "requested: install a torch for CUDA, see reformer-export doctor"
        )
    return torch.device(str(device))


def use_threads(threads: int | None) -> str:
    """Limit the threads of torch, for the whole process; returns the limit in force, as text."""
    if threads is not None:
        torch.set_num_threads(threads)
    return f"{torch.get_num_threads()} threads"


def tensors(signature: Signature, inputs: Arrays) -> tuple[torch.Tensor, ...]:
    """The inputs as torch tensors, in the order of the signature."""
    return tuple(
        torch.from_numpy(np.ascontiguousarray(inputs[spec.name])) for spec in signature.inputs
    )


def named(signature: Signature, outputs: list[torch.Tensor]) -> dict[str, Array]:
    """The outputs by name; `outputs` must be in the order of the signature."""
    pairs = zip(signature.outputs, outputs, strict=True)
    return {spec.name: tensor.numpy() for spec, tensor in pairs}


def failure(name: str, signature: Signature, inputs: Arrays, error: Exception) -> str:
    """The message for a runtime that fails on an input that matches its signature."""
    extent = signature.described_extent(inputs)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{name} failed on {extent}: {' '.join(lines[-1].split())}"
