"""Runs an artifact with `reformer-run`, the program of the C++ runtime, in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.errors import InferenceError, RuntimeUnavailableError, UsageError
from reformer_export.host.cpp_program import PROGRAM, find_program
from reformer_export.runtimes.base import Array, Arrays, Probe, RunnerOptions
from reformer_export.runtimes.cpp_probe import write_probing_artifact
from reformer_export.runtimes.onnx_probe import COMPUTED
from reformer_ops import library_path
from reformer_ops.core.errors import NativeLibraryError
from reformer_ops.core.native import FOLDER_VARIABLE

_ONNXRUNTIME = "REFORMER_ONNXRUNTIME"


class CppRunner:
    """An artifact's model in a backend of the C++ runtime; each call starts a process.

    ONNX Runtime and the kernels are those that Python uses here, unless the environment names
    others. This runner exists for comparison: real programs link libreformer instead.
    """

    def __init__(
        self,
        artifact: Artifact,
        runtime: str,
        format_name: str,
        options: RunnerOptions | None = None,
    ) -> None:
        """Find the program and run it once with the shortest input.

        Raises:
            RuntimeUnavailableError: there is no such program, or it cannot run the model.
            UsageError: the requested operators cannot run the model.
        """
        self.name = f"cpp-{runtime}"
        self.signature = artifact.signature
        self._artifact = artifact
        self._format = format_name
        program = find_program(runtime)
        options = options or RunnerOptions()
        self._command = [str(program.path), "--runtime", runtime, "--ops", options.ops, "--json"]
        self._command += ["--device", str(options.device)]
        self._command += [] if options.threads is None else ["--threads", str(options.threads)]
        self._environment = {**libraries(), **os.environ}
        self._probing: tempfile.TemporaryDirectory[str] | None = None
        signature = self.signature
        shortest = signature.random_inputs(np.random.default_rng(0), 1, signature.min_length)
        inputs = signature.check(shortest)
        document, _ = self._call(artifact.path, inputs, RuntimeUnavailableError)
        self.description = f"{program}, {document['description']}"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        checked = self.signature.check(inputs)
        return self._call(self._artifact.path, checked, InferenceError)[1]

    def show(self, inputs: Arrays) -> Probe:
        """The outputs and the buckets that were used."""
        if self._probing is None:
            self._probing = tempfile.TemporaryDirectory(prefix="reformer-probe-")
            write_probing_artifact(self._artifact, self._format, Path(self._probing.name))
        outputs = self._call(Path(self._probing.name), inputs, InferenceError)[1]
        buckets = [outputs.pop(name) for name in list(outputs) if name.startswith(COMPUTED)]
        return Probe(outputs, buckets)

    def close(self) -> None:
        """Remove the files that were written to show buckets."""
        if self._probing is not None:
            self._probing.cleanup()
            self._probing = None

    def _call(
        self, artifact: Path, inputs: Arrays, error: type[InferenceError | RuntimeUnavailableError]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """The document that the program prints and the arrays that it saves.

        Raises `error` if the program fails, and UsageError for its exit code 2.
        """
        with tempfile.TemporaryDirectory(prefix="reformer-run-") as folder:
            command = [*self._command, str(artifact), "--output", f"{folder}/outputs.npz"]
            for name, array in inputs.items():
                np.save(f"{folder}/{name}.npy", array)
                command += [f"--{name.replace('_', '-')}", f"{folder}/{name}.npy"]
            try:
                done = subprocess.run(
                    command,
                    env=self._environment,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    stdin=subprocess.DEVNULL,
                    check=False,
                )
            except OSError as failure:
                raise error(f"{command[0]} does not start: {failure.strerror}") from failure
            document = _document(done)
            if done.returncode == UsageError.exit_code:
                raise UsageError(document["error"])
            if done.returncode != 0:
                raise error(f"{self.name}: {document['error']}")
            with np.load(f"{folder}/outputs.npz") as saved:
                return document, dict(saved)


def _document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The document of --json; if the program crashed, a document with an error instead."""
    if done.returncode >= 0:
        try:
            document: dict[str, Any] = json.loads(done.stdout)
            return document
        except ValueError:
            pass
    said = " ".join(done.stderr.split())[-200:]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
    return {"error": f"{PROGRAM} ended with {how}{': ' if said else ''}{said}"}


def libraries() -> dict[str, str]:
    """The environment variables with which the program finds the libraries that Python uses."""
    found = {}
    spec = find_spec("onnxruntime")  # without loading it
    for place in (spec.submodule_search_locations if spec else None) or ():
        if any(Path(place).glob("capi/libonnxruntime.so*")):
            found[_ONNXRUNTIME] = str(Path(place) / "capi")
    with suppress(NativeLibraryError):  # if kernels are needed, the program reports the error
        found[FOLDER_VARIABLE] = str(library_path("ort").parent)
    return found
