"""A Python that has only onnxruntime and its requirements, such as NumPy."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

from .model_fixtures import Feeds

# Like a user's first program: no options, no providers, no custom operators.
PROGRAM = """
import pathlib, sys
import numpy, onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
names = [output.name for output in session.get_outputs()]
for path in sorted(pathlib.Path(sys.argv[2]).glob("*.in.npz")):
    outputs = session.run(None, dict(numpy.load(path)))
    numpy.savez(str(path).replace(".in.", ".out."), **dict(zip(names, outputs)))
"""


class PlainPython:
    """A separate virtual environment; its packages are links to those installed here."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        paths = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
        packages = Path(paths["purelib"])
        for package in sorted(_closure("onnxruntime")):
            installed = importlib.metadata.distribution(package)
            for top in {file.parts[0] for file in installed.files or ()} - {".."}:
                (packages / top).symlink_to(Path(str(installed.locate_file(top))))
        self._python = Path(paths["scripts"]) / "python"

    def execute(self, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a program there, isolated from this process's environment and folder."""
        return subprocess.run(
            [str(self._python), "-I", "-c", code, *map(str, arguments)],
            cwd=tempfile.gettempdir(),
            env={},
            text=True,
            capture_output=True,
            check=False,
        )

    def run(self, model: Path, inputs: Sequence[Feeds]) -> Iterator[Feeds]:
        """The outputs of `model` for each input."""
        with tempfile.TemporaryDirectory() as folder:
            for number, arrays in enumerate(inputs):
                np.savez(Path(folder) / f"{number:03}.in.npz", **arrays)  # type: ignore[arg-type]
            done = self.execute(PROGRAM, model, folder)
            assert done.returncode == 0, done.stderr
            for number in range(len(inputs)):
                with np.load(Path(folder) / f"{number:03}.out.npz") as arrays:
                    yield dict(arrays)


def _closure(package: str) -> set[str]:
    """A package and all that it requires on this machine, without extras."""
    found: set[str] = set()
    wanted = [package]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            for line in importlib.metadata.requires(name) or ():
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    wanted.append(requirement.name)
    return found
