"""Calls `reformer-run` and `reformer-export run` in the same way."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from reformer_export.cli.main import main
from reformer_ops import library_path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "reformer_export/runtimes/cpp"
ONNXRUNTIME = Path(onnxruntime.__file__).parent / "capi"
TEXT = "Grüße aus Petersburg, lieber Rodion Romanowitsch!"
TIMES = {"open_seconds", "run_seconds"}


@cache
def built(*options: str) -> Path:
    """Build the C++ runtime of this checkout ("--torch": with libtorch); returns the folder."""
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("there is no C++ compiler")
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build/cpp.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # all test processes share one build folder
        tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", str(RUNTIME / "build.sh"), *options],
            env=os.environ | tools,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / ("build/cpp-torch" if "--torch" in options else "build/cpp")


def fetched_headers() -> list[str]:
    """CMake options with which another build uses the headers that the first build fetched.

    CMake finds installed headers without an option.
    """
    folders = {name: built() / f"{name}-headers" for name in ("json", "cxxopts")}
    return [f"-D{n.upper()}_INCLUDE_DIR={path}" for n, path in folders.items() if path.is_dir()]


def environment() -> dict[str, str]:
    """Environment variables with which the C++ runtime finds the libraries that Python uses."""
    return {
        "REFORMER_ONNXRUNTIME": str(ONNXRUNTIME),
        "REFORMER_OPS_LIBRARY_DIR": str(library_path("ort").parent),
    }


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document that --json prints."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> str:
        """The only error line, with `reformer-run` as the name of both programs."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self
        assert self.err.endswith(lines[0] + "\n")
        return lines[0].replace("reformer-export run", "reformer-run")


Program = Callable[..., Ran]


def in_python(*arguments: object) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["run", *map(str, arguments)])
    return Ran(code, out.getvalue(), err.getvalue())


def in_cpp(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> Ran:
    done = subprocess.run(
        [str(built() / "reformer-run"), *map(str, arguments)],
        env=os.environ | environment() if env is None else env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class Options(ctypes.Structure):
    """`reformer_options` of c_api.h."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("runtime", ctypes.c_char_p),
        ("ops", ctypes.c_char_p),
        ("threads", ctypes.c_int),
        ("onnxruntime", ctypes.c_char_p),
        ("ops_folder", ctypes.c_char_p),
    )


class Tensor(ctypes.Structure):
    """`reformer_tensor` of c_api.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_size_t),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
    )


class Limits(ctypes.Structure):
    """`reformer_limits` of c_api.h."""

    _fields_ = tuple((n, ctypes.c_int64) for n in ("vocab_size", "min_length", "max_length"))


def library(path: Path | None = None) -> ctypes.CDLL:
    """libreformer, with the result and argument types that ctypes needs."""
    loaded = ctypes.CDLL(str(path or built() / "libreformer.so"))
    loaded.reformer_last_error.restype = ctypes.c_char_p
    loaded.reformer_description.restype = ctypes.c_char_p
    loaded.reformer_output_count.restype = ctypes.c_size_t
    loaded.reformer_limits_of.restype = Limits
    pointer = ctypes.c_void_p
    for name in ("close", "description", "limits_of", "output_count", "free_outputs"):
        getattr(loaded, f"reformer_{name}").argtypes = [pointer]
    size = ctypes.c_int64
    loaded.reformer_run.argtypes = [pointer, pointer, pointer, size, size, ctypes.POINTER(pointer)]
    loaded.reformer_run_tensors.argtypes = [
        pointer,
        ctypes.POINTER(Tensor),
        ctypes.c_size_t,
        ctypes.POINTER(pointer),
    ]
    loaded.reformer_output.argtypes = [pointer, ctypes.c_size_t, ctypes.POINTER(Tensor)]
    loaded.reformer_check.argtypes = [ctypes.c_char_p]
    return loaded


def both(folder: Path, *arguments: object) -> dict[str, Any]:
    """Run both programs, and compare documents and outputs; returns the document."""
    documents, outputs = [], []
    for program in (in_python, in_cpp):
        out = folder / "out.npz"
        ran = program(*arguments, "--output", out, "--json")
        assert ran.code == 0, ran
        documents.append({k: v for k, v in ran.document.items() if k not in TIMES})
        with np.load(out) as saved:
            outputs.append(dict(saved))
        out.unlink()
    assert documents[0] == documents[1]
    ours, theirs = outputs
    assert list(ours) == list(theirs) == list(documents[0]["outputs"])
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name])
    return documents[0]


_FACT = re.compile(
    r"""(?<![\w.])-?\d+(?![\w.])  # numbers
    |(?<=')[\w.-]+(?=')           # quoted names
    |\b[a-z]+(?:_[a-z]+)+\b       # fields and inputs
    |--[a-z-]+                    # options
    |\b[a-z]+\.(?:json|onnx|npy|npz|pt)\b
    """,
    re.VERBOSE,
)


def missing_facts(found: str, wanted: str) -> list[str]:
    """The names and numbers of the message `wanted` that the message `found` does not contain."""
    facts = sorted({fact.lstrip("-") for fact in _FACT.findall(wanted)})
    return [fact for fact in facts if not re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", found)]


def both_refuse(*arguments: object) -> str:
    """Run both programs, which must fail with the same exit code and facts; returns C++'s error.

    The words may differ. Each name and number of Python's message must be in C++'s message.
    """
    python, cpp = in_python(*arguments), in_cpp(*arguments)
    assert cpp.code == python.code != 0, (python, cpp)
    assert not missing_facts(cpp.error, python.error), (python.error, cpp.error)
    assert cpp.out == python.out == ""
    printed = in_cpp("--json", *arguments).document
    assert printed == {"error": cpp.error.removeprefix("error: "), "exit_code": cpp.code}
    return cpp.error


def save(folder: Path, inputs: dict[str, np.ndarray]) -> list[object]:
    """Save these inputs; returns the arguments that name the files."""
    arguments: list[object] = []
    for name, array in inputs.items():
        np.save(folder / f"{name}.npy", array)
        arguments += [f"--{name.replace('_', '-')}", folder / f"{name}.npy"]
    return arguments
