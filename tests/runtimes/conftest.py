"""Artifacts to run, and a build of the C++ runtime with sanitizers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from reformer_export.artifact import Artifact

from ..tools.model_fixtures import TINY, Fixtures
from .programs import ROOT, RUNTIME, fetched_headers


@pytest.fixture(scope="session")
def artifact(fixtures: Fixtures) -> Artifact:
    """A small language model."""
    return fixtures.artifact("text-generation", TINY)


@pytest.fixture(scope="session")
def exported_decoder(fixtures: Fixtures) -> Callable[..., Artifact]:
    """Exports small models with the graphs for generation, each of them once."""
    return partial(fixtures.decoder, TINY)


@pytest.fixture(scope="session")
def decoder(exported_decoder: Callable[..., Artifact]) -> Artifact:
    """A small language model with the graphs for generation."""
    return exported_decoder()


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the build with sanitizers."""
    folder = tmp_path_factory.mktemp("sanitized")
    configure = ["cmake", "-S", RUNTIME, "-B", folder, "-DREFORMER_SANITIZE=address,undefined"]
    configure += ["-DREFORMER_TENSORRT=OFF"]
    configure += fetched_headers()
    headers = ROOT / "build/native/onnxruntime-headers"
    configure += [f"-DORT_INCLUDE_DIR={headers}"] if headers.is_dir() else []
    for command in (configure, ["cmake", "--build", folder, "--parallel", "2"]):
        done = subprocess.run(
            [*map(str, command)],
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def sanitizers() -> dict[str, str]:
    """Environment variables with which Python can load libraries of that build."""
    runtimes = [
        subprocess.run(
            ["c++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")  # Python itself loads neither
    ]
    return {
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python leaks at its exit
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
