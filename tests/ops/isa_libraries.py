"""The native library for onnxruntime, once for each instruction set of this machine."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import onnxruntime

from reformer_ops import library_path
from reformer_ops.core.errors import NativeLibraryError

ISAS = ("baseline", "neon", "avx2", "avx512")
INT8_ISAS = ("neon_dot", "avx2_vnni", "avx512_vnni")
"""Only layers with weights of fewer bits have kernels for these."""
VARIABLE = "REFORMER_FORCE_ISA"

_loaded: list[onnxruntime.SessionOptions] = []  # these keep the copies loaded


def isa_libraries(*, int8: bool = False) -> dict[str, Path]:
    """The libraries by instruction set; empty if the package has no native operators.

    With `int8`, those of `INT8_ISAS` are among them.
    """
    names = ISAS + INT8_ISAS if int8 else ISAS
    return {isa: library for isa in names if (library := _library(isa)) is not None}


@cache
def _library(isa: str) -> Path | None:
    """The library for an instruction set; None if there is none, or not for this machine.

    A library chooses its instruction set once, when it is loaded. So each of these is a copy with
    a name of its own.
    """
    try:
        library = library_path("ort")
    except NativeLibraryError:
        return None
    copy = _folder() / f"{isa}.so"
    shutil.copy(library, copy)
    options = onnxruntime.SessionOptions()
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = isa
    try:
        options.register_custom_ops_library(str(copy))
    except Exception as error:  # onnxruntime's own share no base class
        # This machine does not have the instruction set; any other error is a fault.
        if VARIABLE not in str(error):
            raise
        return None
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
    _loaded.append(options)
    return copy


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="reformer-ops-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
