"""Runs `model.pt` in torch's own interpreter, which is also part of libtorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import TORCHSCRIPT
from reformer_export.errors import InferenceError
from reformer_export.runtimes.base import Array, Arrays, Probe
from reformer_export.runtimes.torch_files import (
    failure,
    load_script,
    prepare_operators,
    tensors,
    use_threads,
)
from reformer_ops.core.native import Choice


class TorchScriptRunner:
    """An artifact's model as TorchScript, on the CPU."""

    name = "torchscript"

    def __init__(
        self, artifact: Artifact, threads: int | None = None, ops: Choice = "auto"
    ) -> None:
        self.signature = artifact.signature
        operators = prepare_operators(artifact, TORCHSCRIPT, ops)
        self._module = load_script(artifact)
        self.description = f"torch {torch.__version__}, {use_threads(threads)}, {operators}"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        outputs = self._call(self._module, self.signature.check(inputs))
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def show(self, inputs: Arrays) -> Probe:
        """The outputs and the buckets that were used."""
        outputs, buckets = self._call(self._module.probe, inputs)
        return Probe(
            {name: tensor.numpy() for name, tensor in outputs.items()},
            [layer.numpy() for layer in buckets],
        )

    def close(self) -> None:
        """Free the model."""
        del self._module

    def _call(self, method: Callable[..., Any], inputs: Arrays) -> Any:
        try:
            with torch.inference_mode():
                return method(*tensors(self.signature, inputs))
        except (RuntimeError, ValueError, torch.jit.Error) as error:
            raise InferenceError(failure(self.name, self.signature, inputs, error)) from error
