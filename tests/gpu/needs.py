"""What parts need on a machine, and the reason if a need is missing."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from reformer_export.host.gpu import find_gpus
from reformer_export.host.optional import installed
from reformer_ops import library_path
from reformer_ops.core.errors import NativeLibraryError


def first_missing(needs: Iterable[str], *, rehearsal: bool = False) -> str | None:
    """The reason why the first missing need is missing; None if no need is missing.

    A rehearsal needs no GPU, and nothing that is only for a GPU.
    """
    for need in needs:
        if rehearsal and need in _OF_A_GPU:
            continue
        if reason := NEEDS[need]():
            return reason
    return None


def _gpu() -> str | None:
    gpus, reason = find_gpus()
    return None if gpus else f"no GPU: {reason}"


def _torch_cuda() -> str | None:
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU that it can use"
    return None


def _importable(*modules: str) -> str | None:
    for module in modules:
        if not installed(module):
            return f"{module} is not installed"
        try:
            importlib.import_module(module)
        except Exception as error:
            return f"{module} does not load: {error}"
    return None


def _onnxruntime() -> str | None:
    import torch  # noqa: F401  (brings CUDA's libraries, which onnxruntime's provider needs)

    if reason := _importable("onnxruntime"):
        return reason
    import onnxruntime

    where = Path(onnxruntime.__file__).parent
    if not (where / "capi").is_dir():
        return f"onnxruntime in {where} is incomplete: bring the other part of its wheel, too"
    return None


def _onnxruntime_cuda() -> str | None:
    if reason := _onnxruntime():
        return reason
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return f"onnxruntime {onnxruntime.__version__} has no CUDA provider: give --wheels"
    library = Path(onnxruntime.__file__).parent / "capi/libonnxruntime_providers_cuda.so"
    if not library.is_file():
        return f"{library.name} is not there: bring that part of the wheel, too"
    return None


def _operator_library() -> str | None:
    try:
        library_path("ort")
    except NativeLibraryError as error:
        return str(error)
    return None


NEEDS: dict[str, Callable[[], str | None]] = {
    "gpu": _gpu,
    "torch-cuda": _torch_cuda,
    "triton": lambda: _importable("triton"),
    "onnx": lambda: _importable("onnx", "onnx_ir", "onnxscript"),
    "onnxruntime": _onnxruntime,
    "onnxruntime-cuda": _onnxruntime_cuda,
    "operator-library": _operator_library,
    "tensorrt": lambda: _importable("tensorrt"),
    "transformers": lambda: _importable("transformers"),
}
"""A check of each need, by name. It returns the reason if the need is missing, or None. "gpu" asks
only the driver; the other checks may import much, so they run in the process that has the need."""

_OF_A_GPU = ("gpu", "torch-cuda", "triton", "onnxruntime-cuda")


def operator_library_folder() -> Path | None:
    """The folder of our library for onnxruntime, if it is found without an installation, else None.

    It is REFORMER_OPS_LIBRARY_DIR if that is set, else a build folder of this checkout.
    """
    name = "libreformer_ops_ort.so"
    given = os.environ.get("REFORMER_OPS_LIBRARY_DIR")
    root = Path(__file__).resolve().parents[2]
    folders = [Path(given)] if given else [root / "build/native", root / "build/native-ort"]
    return next((folder for folder in folders if (folder / name).is_file()), None)
