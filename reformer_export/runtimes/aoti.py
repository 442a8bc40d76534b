"""Runs `model.pt2`: the model compiled to machine code by AOTInductor."""

from __future__ import annotations

from typing import Any

import torch

from reformer_export.artifact import Artifact
from reformer_export.artifact.machine_code import check_machine
from reformer_export.artifact.manifest import AOTI
from reformer_export.errors import InferenceError, RuntimeUnavailableError
from reformer_export.runtimes.base import Array, Arrays, Probe
from reformer_export.runtimes.torch_files import (
    failure,
    named,
    prepare_operators,
    tensors,
    use_threads,
)
from reformer_ops.core.native import Choice


class AotiRunner:
    """An artifact's model compiled ahead of time, on the CPU."""

    name = "aoti"

    def __init__(
        self, artifact: Artifact, threads: int | None = None, ops: Choice = "auto"
    ) -> None:
        self.signature = artifact.signature
        self._layers = len(artifact.manifest.hashing.rotations)
        operators = prepare_operators(artifact, AOTI, ops)
        path = artifact.format_path(AOTI)
        check_machine(artifact.manifest.formats[AOTI].machine, str(path))
        try:
            self._model = torch._inductor.aoti_load_package(str(path))
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise RuntimeUnavailableError(
                f"torch {torch.__version__} cannot load {path}: {' '.join(reason[0].split())}"
            ) from error
        self.description = f"torch {torch.__version__}, {use_threads(threads)}, {operators}"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        return self.show(self.signature.check(inputs)).outputs

    def show(self, inputs: Arrays) -> Probe:
        """The outputs and the buckets that were used; the compiled model always returns both."""
        outputs = self._call(inputs)
        buckets = [layer.numpy() for layer in outputs.pop()] if self._layers else []
        return Probe(named(self.signature, outputs), buckets)

    def close(self) -> None:
        """Free the model."""
        del self._model

    def _call(self, inputs: Arrays) -> list[Any]:
        try:
            with torch.inference_mode():
                return list(self._model(*tensors(self.signature, inputs)))
        except RuntimeError as error:
            raise InferenceError(failure(self.name, self.signature, inputs, error)) from error
