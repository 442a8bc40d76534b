"""Generates with the methods `prefill` and `step` of model.pt, in torch on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reformer_export.artifact import Artifact
from reformer_export.artifact.fields import Fields
from reformer_export.artifact.manifest import MANIFEST, TORCHSCRIPT
from reformer_export.artifact.signature import LOGITS, PAST, PRESENT, TensorSpec, require_tokens
from reformer_export.errors import InferenceError
from reformer_export.runtimes.base import RunnerOptions
from reformer_export.runtimes.decoder import Decoder, Logits
from reformer_export.runtimes.decoder_cache import Array, Cache, CacheLayout
from reformer_export.runtimes.torch_files import load_script, prepare_operators, use_threads


class TorchScriptDecoder(Decoder):
    """An artifact's decoder in TorchScript. A step changes the cache in place."""

    name = "torchscript"

    def __init__(self, artifact: Artifact, options: RunnerOptions) -> None:
        """Load model.pt, which must have been exported with the methods for generation.

        Raises:
            UsageError: the file cannot run with the requested operators.
            ArtifactError: its manifest does not describe the cache.
            RuntimeUnavailableError: torch cannot load the file, or its operators do not run.
            NativeLibraryError: native operators are requested and do not load.
        """
        self.signature = require_tokens(artifact.signature, "generation")
        operators = prepare_operators(artifact, TORCHSCRIPT, options.ops)
        self._module = load_script(artifact)
        self.layout = _layout(artifact)
        threads = use_threads(options.threads)
        self.description = f"torch {torch.__version__}, {threads}, {operators}"

    def close(self) -> None:
        """Free the model."""
        del self._module

    def _run_prompts(self, ids: NDArray[np.int64]) -> tuple[Logits, Mapping[str, Array]]:
        outputs = self._call(self._module.prefill, torch.from_numpy(ids))
        logits = outputs.pop(LOGITS)
        tensors = {name.removeprefix(PRESENT): value.numpy() for name, value in outputs.items()}
        return _rows(logits), tensors

    def _run_step(self, tokens: NDArray[np.int64], cache: Cache) -> Logits:
        past = {PAST + name: torch.from_numpy(array) for name, array in cache.tensors.items()}
        lengths = (torch.from_numpy(array) for array in (cache.past_length, cache.prompt_length))
        ids = torch.from_numpy(tokens[:, None])
        return _rows(self._call(self._module.step, ids, *lengths, past))

    @staticmethod
    def _call(method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with torch.inference_mode():
                return method(*arguments)
        except (RuntimeError, ValueError, torch.jit.Error) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise InferenceError(f"torchscript failed to generate: {lines[-1].strip()}") from error


def _rows(logits: torch.Tensor) -> Logits:
    found: Logits = logits[:, 0].float().numpy()
    return found


def _layout(artifact: Artifact) -> CacheLayout:
    record = artifact.manifest.formats[TORCHSCRIPT]
    fields = Fields(record.details, f"{MANIFEST}.formats.{TORCHSCRIPT}.details")
    specs = (TensorSpec.from_json(each) for each in fields.children("cache"))
    tensors = {spec.name: (np.dtype(spec.dtype), spec.axes) for spec in specs}
    return CacheLayout(artifact.manifest.files[record.file].sha256, tensors)
