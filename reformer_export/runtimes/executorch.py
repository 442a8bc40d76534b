"""Runs `model.pte` in ExecuTorch on the CPU, with XNNPACK."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import EXECUTORCH
from reformer_export.artifact.signature import INPUT_IDS
from reformer_export.errors import InferenceError, RuntimeUnavailableError, UsageError
from reformer_export.host.optional import installed_version, require
from reformer_export.runtimes.base import Array, Arrays, Probe, RunnerOptions
from reformer_export.runtimes.portable_only import check_portable
from reformer_export.runtimes.torch_files import failure, named, tensors


class ExecuTorchRunner:
    """An artifact's model in ExecuTorch. It runs a batch in parts that the program can take."""

    name = "executorch"
    _opened = False
    """True after the first model was loaded in this process."""

    def __init__(self, artifact: Artifact, options: RunnerOptions | None = None) -> None:
        options = options or RunnerOptions()
        self.signature = artifact.signature
        self._max_batch = max(1, int(artifact.manifest.formats[EXECUTORCH].details["max_batch"]))
        self._layers = len(artifact.manifest.hashing.rotations)
        check_portable(self.name, artifact, options.ops)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that its interface may change
            package = require("executorch.runtime", purpose="running model.pte")
            runtime = package.Runtime.get()
        version = installed_version("executorch")
        path = artifact.format_path(EXECUTORCH)
        threads = _use_threads(options.threads, fixed=ExecuTorchRunner._opened)
        ExecuTorchRunner._opened = True
        try:
            self._program = runtime.load_program(path)
            self._method = self._program.load_method("forward")
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RuntimeUnavailableError(
                f"executorch {version} cannot load {path}: {reason}"
            ) from error
        self.description = f"executorch {version}, XNNPACK, {threads}, portable operators"
        self._lock = threading.Lock()

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        return self.show(self.signature.check(inputs)).outputs

    def show(self, inputs: Arrays) -> Probe:
        """The outputs and the buckets that were used; the program always returns both."""
        batch = inputs[INPUT_IDS].shape[0]
        parts = [
            self._call(
                {name: array[first : first + self._max_batch] for name, array in inputs.items()}
            )
            for first in range(0, batch, self._max_batch)
        ]
        buckets = torch.cat([part.pop() for part in parts], dim=1) if self._layers else ()
        outputs = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
        return Probe(named(self.signature, outputs), [layer.numpy() for layer in buckets])

    def close(self) -> None:
        """Free the model."""
        del self._method, self._program

    def _call(self, inputs: Arrays) -> list[Any]:
        try:
            with self._lock:  # a method has one memory for its intermediate values
                return list(self._method.execute(tensors(self.signature, inputs)))
        except RuntimeError as error:
            raise InferenceError(failure(self.name, self.signature, inputs, error)) from error


def _use_threads(threads: int | None, *, fixed: bool) -> str:
    """Set the number of threads of ExecuTorch, for the whole process; returns it, as text.

    Models that are loaded keep using the threads that there were, so `fixed` must be True then.
    Raises UsageError if the number is fixed and another one is requested.
    """
    from executorch.extension.pybindings import portable_lib

    current: int = portable_lib._threadpool_get_thread_count()
    if threads is None or threads == current:
        return f"{current} threads"
    if fixed:
        raise UsageError(
            f"--threads {threads}: executorch has used {current} threads in this process since it "
            "loaded its first model: give the same number to all models"
        )
    portable_lib._unsafe_reset_threadpool(threads)
    return f"{portable_lib._threadpool_get_thread_count()} threads"
