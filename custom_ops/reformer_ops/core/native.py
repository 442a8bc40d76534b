"""Finds and loads the libraries of the native kernels, and reports what runs if they do not load.

Environment variables:
    REFORMER_OPS: "auto" (the default) runs the native kernels if they are available and logs what
        runs, "native" requires them, "portable" does not use them.
    REFORMER_OPS_LIBRARY_DIR: a folder to search instead of the installed package, such as a CMake
        build folder.
    REFORMER_FORCE_ISA: the instruction set to use, see csrc/isa.h.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from reformer_ops.core.errors import NativeLibraryError, OpError
from reformer_ops.core.spec import DOMAIN

Kind = Literal["torch", "ort"]
"""The framework of a library."""

Choice = Literal["auto", "native", "portable"]
CHOICES: tuple[str, ...] = get_args(Choice)

CHOICE_VARIABLE = "REFORMER_OPS"
FOLDER_VARIABLE = "REFORMER_OPS_LIBRARY_DIR"
_ISA_VARIABLE = "REFORMER_FORCE_ISA"

KERNELS_ENTRY = "reformer.kernels"
"""The entry of session options that names a file of kernels for GPUs."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NativeStatus:
    """Whether the native kernels run: `isa` and `path` if they do, else the `reason` why not."""

    kind: Kind
    path: Path | None = None
    isa: str | None = None
    reason: str | None = None

    @property
    def available(self) -> bool:
        """True if the native kernels run."""
        return self.reason is None

    def __str__(self) -> str:
        return f"native operators ({self.isa})" if self.available else "portable operators"


def library_path(kind: Kind | Literal["onnxruntime"]) -> Path:
    """The library for `torch.ops.load_library` or `register_custom_ops_library`.

    Args:
        kind: "torch", or "ort", which may also be written "onnxruntime".

    Raises:
        NativeLibraryError: there is none; the message says where it was searched and how to get it.
        ValueError: `kind` has another value.
    """
    if kind == "onnxruntime":
        kind = "ort"
    if kind not in get_args(Kind):
        raise ValueError(f"no library of kind {kind!r}: ask for one of torch, ort (onnxruntime)")
    name = f"libreformer_ops_{kind}.so"
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        folders = [Path(given)]
        remedy = f"build it there, or unset {FOLDER_VARIABLE}"
    else:
        import reformer_ops

        # In an editable install, the libraries are in another folder than the sources.
        folders = [Path(root) / "_native" for root in reformer_ops.__path__]
        remedy = "install again with a C++ compiler; REFORMER_NATIVE=1 shows why the build fails"
    for folder in folders:
        if (folder / name).is_file():
            return (folder / name).resolve()
    looked = " or ".join(map(str, folders))
    raise NativeLibraryError(f"there is no {name} in {looked}: {remedy}")


def session_options(*, threads: int | None = None, kernels: str | Path | None = None) -> Any:
    """An `onnxruntime.SessionOptions` with our operators, and with good settings for a Reformer.

    Sessions with these options run our operators with the native kernels. For long sequences, they
    need less memory than with default options: ONNX Runtime's memory pattern of the first run
    reserves memory for all tensors at once (1.3 GB instead of 0.8 for 65,536 tokens of
    crime-and-punishment).

    Args:
        threads: the largest number of CPU threads; ONNX Runtime's choice if None.
        kernels: the artifact's model.cuda, for sessions on NVIDIA GPUs.

    Raises:
        NativeLibraryError: the library is missing or does not load.
    """
    options = tuned_options(threads=threads, kernels=kernels)
    register_with_onnxruntime(options, "native")
    return options


def tuned_options(*, threads: int | None = None, kernels: str | Path | None = None) -> Any:
    """`session_options` without our operators."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # no faster with it
    if threads is not None:
        options.intra_op_num_threads = threads
    if kernels is not None:
        options.add_session_config_entry(KERNELS_ENTRY, str(kernels))
    return options


def native_status(kind: Kind) -> NativeStatus:
    """How torch or onnxruntime runs our operators in this process; loads the library.

    Raises:
        NativeLibraryError: REFORMER_OPS=native, and the library is missing or does not load.
        OpError: an environment variable has an unknown value.
    """
    if kind == "torch":
        return load_into_torch()
    import onnxruntime

    return register_with_onnxruntime(onnxruntime.SessionOptions())


def requested() -> Choice:
    """The value of REFORMER_OPS."""
    choice = os.environ.get(CHOICE_VARIABLE) or "auto"
    if choice not in CHOICES:
        raise OpError(f"{CHOICE_VARIABLE}={choice}: choose one of {', '.join(CHOICES)}")
    return choice  # type: ignore[return-value]


@cache
def load_into_torch() -> NativeStatus:
    """Load the kernels of `torch.ops.reformer` if REFORMER_OPS allows; raises as
    `native_status`."""
    import torch

    def load(path: Path) -> str:
        torch.ops.load_library(path)
        library = ctypes.CDLL(str(path))
        text = ctypes.create_string_buffer(1024)
        failed = library.reformer_ops_isa(text, len(text))
        message = text.value.decode()
        if failed:
            raise OpError(message)
        return message

    return _resolve("torch", requested(), load)


def register_with_onnxruntime(options: Any, choice: Choice | None = None) -> NativeStatus:
    """Give the sessions of an `onnxruntime.SessionOptions` our kernels; raises as `native_status`.

    `choice` overrides REFORMER_OPS.
    """

    def load(path: Path) -> str:
        options.register_custom_ops_library(str(path))
        isa: str = options.get_session_config_entry(f"{DOMAIN}.isa")
        return isa

    return _resolve("ort", choice or requested(), load)


def _resolve(kind: Kind, choice: Choice, load: Callable[[Path], str]) -> NativeStatus:
    """Load the library if `choice` allows; `load` takes its path, returns the instruction set."""
    if choice == "portable":
        return NativeStatus(kind, reason="portable operators were asked for")
    path: Path | None = None
    try:
        path = library_path(kind)
        status = NativeStatus(kind, path, _loaded(path, load))
    except NativeLibraryError as error:
        if choice == "native":
            raise
        # A warning if the library exists but does not load.
        level = logging.INFO if path is None else logging.WARNING
        status = NativeStatus(kind, path, reason=str(error))
        _logger.log(level, "%s runs %s: %s", kind, status, error)
    else:
        _logger.info("%s runs %s from %s", kind, status, path)
    return status


def _loaded(path: Path, load: Callable[[Path], str]) -> str:
    try:
        return load(path)
    except OpError:
        raise
    except Exception as error:  # OSError in torch; onnxruntime's errors have no common base class
        reason = str(error.__cause__ or error)
        if _ISA_VARIABLE in reason:
            raise OpError(reason[reason.index(_ISA_VARIABLE) :]) from error
        raise NativeLibraryError(
            f"{path} does not load ({reason}): install again, or set {CHOICE_VARIABLE}=portable"
        ) from error
