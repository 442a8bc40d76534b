"""The examples in C++ and C, built against the installed runtime as a user would build them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from reformer_export.artifact import Artifact

from ..tools.model_fixtures import TINY, Fixtures
from .programs import ROOT, built, environment, in_python

TEXT = "Porfirij"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which they are built."""
    built()
    prefix = ROOT / f"build/runtime/linux-{platform.machine()}"
    folder = tmp_path_factory.mktemp("examples")
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in (
        ["cmake", "-S", ROOT / "examples/cpp", "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}"],
        ["cmake", "--build", folder],
    ):
        done = subprocess.run(
            [*map(str, command)],
            env=os.environ | tools,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr
    return folder


@pytest.mark.parametrize("name", ["next_token", "next_token_c"])
def test_an_example(examples: Path, fixtures: Fixtures, tmp_path: Path, name: str) -> None:
    artifact: Artifact = fixtures.artifact("text-generation", TINY)
    (top,) = in_python(artifact.path, "--text", TEXT, "--json").document["predictions"]

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(examples / name), *map(str, arguments)],
            env=os.environ | environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(artifact.path, TEXT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{top['index']}\n"
    assert "native operators" in done.stderr
    assert run().returncode == 2
    for arguments, said in (
        ((tmp_path, TEXT), "is not an artifact"),
        ((artifact.path, ""), "empty"),
    ):
        done = run(*arguments)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert said in done.stderr
