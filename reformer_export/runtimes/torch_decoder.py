"""The checkpoint itself as a decoder, in torch on the CPU: the reference for artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact.signature import Signature, require_tokens
from reformer_export.runtimes.decoder import Decoder, Logits
from reformer_export.runtimes.decoder_cache import Array, Cache, CacheLayout
from reformer_export.source import decoder_modules

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel


class TorchDecoder(Decoder):
    """A loaded checkpoint that generates with the portable operators.

    It is slow, because every step copies the cache.
    """

    name = "torch"

    def __init__(self, loaded: LoadedModel, signature: Signature) -> None:
        """Use a loaded checkpoint.

        Raises:
            UsageError: the task of the model is not text-generation.
        """
        import torch

        self._torch = torch
        self.description = f"torch {torch.__version__}, CPU"
        self.signature = require_tokens(signature, "generation")
        self._prompt, self._step, self._tensors = decoder_modules(loaded)
        dtype = loaded.dtype
        model_type = np.dtype(str(dtype).removeprefix("torch."))
        self.layout = CacheLayout(
            "the checkpoint",
            {
                tensor.name: (np.dtype(np.int32) if tensor.integers else model_type, tensor.axes)
                for tensor in self._tensors
            },
        )

    def close(self) -> None:
        """Drop the model."""
        del self._prompt, self._step

    def _run_prompts(self, ids: NDArray[np.int64]) -> tuple[Logits, Mapping[str, Array]]:
        with self._torch.no_grad():
            return self._named(self._prompt(self._torch.from_numpy(ids)))

    def _run_step(self, tokens: NDArray[np.int64], cache: Cache) -> Logits:
        from_numpy = self._torch.from_numpy
        with self._torch.no_grad():
            logits, cache.tensors = self._named(
                self._step(
                    from_numpy(tokens[:, None]),
                    from_numpy(cache.past_length),
                    from_numpy(cache.prompt_length),
                    *(from_numpy(cache.tensors[tensor.name]) for tensor in self._tensors),
                )
            )
        return logits

    def _named(self, outputs: dict[str, Any]) -> tuple[Logits, dict[str, Array]]:
        logits: Logits = outputs["logits"][:, 0].float().numpy()
        return logits, {tensor.name: outputs[tensor.present].numpy() for tensor in self._tensors}
