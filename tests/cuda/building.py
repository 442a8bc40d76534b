"""Compiles the stand-in for NVIDIA's driver and the code under test, when a test needs them."""

from __future__ import annotations

import fcntl
import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADERS = {
    "ORT_INCLUDE_DIR": ROOT / "build/native/onnxruntime-headers",
    "JSON_INCLUDE_DIR": ROOT / "build/native/json-headers",
}
"""Headers that `make` has found; if they are missing, CMake searches for them again."""


@cache
def build(sanitize: str = "") -> Path:
    """The folder with the build; with `sanitize`, the build has no operators."""
    folder = ROOT / "build/cuda-tests" / (sanitize.replace(",", "-") or "plain")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # tests run in parallel
        fcntl.flock(lock, fcntl.LOCK_EX)
        configure = ["cmake", "-S", str(ROOT / "tests/cuda"), "-B", str(folder)]
        configure += [f"-DSANITIZE={sanitize}"]
        configure += [f"-D{name}={path}" for name, path in HEADERS.items() if path.is_dir()]
        _run(configure)
        _run(["cmake", "--build", str(folder), "--parallel", "2"])
    return folder


def run_program(name: str, *arguments: str | Path, sanitize: str = "") -> str:
    """The output of a program; AssertionError with its output and errors if it fails."""
    folder = build(sanitize)
    done = subprocess.run(
        [folder / name, *arguments],
        env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return done.stdout


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
