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
VARIABLE = "REFORMER_FORCE_ISA"

_loaded: list[onnxruntime.SessionOptions] = []  # these keep the copies loaded


@cache
def isa_libraries() -> dict[str, Path]:
    """The libraries by instruction set; empty if the package has no native operators.

    A library chooses its instruction set once, when it is loaded. So each of these is a copy with
    a name of its own.
    """
    try:
        library = library_path("ort")
    except NativeLibraryError:
        return {}
    folder = Path(tempfile.mkdtemp(prefix="reformer-ops-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found = {}
    before = os.environ.get(VARIABLE)
    for isa in ISAS:
        copy = folder / f"{isa}.so"
        shutil.copy(library, copy)
        options = onnxruntime.SessionOptions()
        os.environ[VARIABLE] = isa
        try:
            options.register_custom_ops_library(str(copy))
        except Exception as error:  # onnxruntime's own share no base class
            # This machine does not have the instruction set; any other error is a fault.
            if VARIABLE not in str(error):
                raise
            continue
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before
        _loaded.append(options)
        found[isa] = copy
    return found
