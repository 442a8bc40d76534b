"""Runs Hugging Face's own model, a reference of the parity checks."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reformer_export.artifact.signature import LOGITS, Signature
from reformer_export.errors import UsageError
from reformer_export.host.device import CPU, CUDA, Device
from reformer_export.host.optional import require
from reformer_export.runtimes.base import Array, Arrays, Buckets, Probe
from reformer_export.runtimes.torch_files import tensors, torch_device
from reformer_export.runtimes.torch_margins import decision_margins
from reformer_export.source import TASKS

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel


def inexpressible(loaded: LoadedModel) -> str | None:
    """Why transformers can't compute what a model computes; None if it can."""
    needed = " and no ".join(loaded.config.beyond_transformers)
    return f"transformers has no {needed}, which this model needs" if needed else None


class TransformersRunner:
    """transformers' eager Reformer, with the same num_buckets and hash_seed as our model.

    Its arithmetic is unchanged. `probe` wraps its hashing to read and replace the buckets; `run`
    does not.

    Raises:
        UsageError: transformers can't compute what the model computes.
    """

    name = "transformers"

    def __init__(
        self, loaded: LoadedModel, signature: Signature, device: Device | None = None
    ) -> None:
        self._device = torch_device(device or Device(CPU))
        transformers = require("transformers", purpose="comparing with Hugging Face's model")
        self.signature = signature
        self._rotations = next(iter(loaded.rotations.values()), torch.empty(0))
        # transformers warns each time it pads a sequence.
        logging.getLogger("transformers.models.reformer").setLevel(logging.ERROR)
        if reason := inexpressible(loaded):
            raise UsageError(f"the transformers runtime can't be used: {reason}")
        self._config = loaded.token_config
        config = transformers.ReformerConfig(**self._config.to_hf())
        model = getattr(transformers, TASKS[loaded.task])(config)
        # Our parameters have transformers' names; only the base class lacks the prefix.
        state = loaded.model.state_dict()
        if loaded.task == "feature-extraction":
            state = {name.removeprefix("reformer."): tensor for name, tensor in state.items()}
        dtype = loaded.dtype
        self._model = model.to(dtype).eval()
        self._model.load_state_dict(state)
        if "lm_head.bias" in state and self._model.lm_head.decoder.bias is None:
            # transformers 5 does not connect the head's bias to its layer. Our model's bias is
            # zero if the checkpoint's bias must not be added.
            self._model.lm_head.decoder.bias = self._model.lm_head.bias
        self._layers = [
            layer.attention.self_attention
            for layer in getattr(self._model, "reformer", self._model).encoder.layers
            if hasattr(layer.attention.self_attention, "query_key")
        ]
        self._model.to(self._device)
        self.description = f"transformers {transformers.__version__}, torch {torch.__version__}"
        if self._device.type == CUDA:
            self.description += f", {torch.cuda.get_device_name(self._device)}"

    @property
    def model(self) -> Any:
        """transformers' model."""
        return self._model

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Outputs by name."""
        given = tensors(self.signature, self.signature.check(inputs))
        ids, mask = (tensor.to(self._device) for tensor in given)
        # Its hashing seeds the global generator, so the generator's state is restored afterwards.
        # On a GPU the same seed gives other rotations, which does not matter for measuring time.
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            outputs = self._model(input_ids=ids, attention_mask=mask, use_cache=False)
            if self.signature.last_logits:
                last = (mask * torch.arange(mask.shape[1], device=mask.device)).amax(dim=1)
                rows = torch.arange(len(mask), device=mask.device)
                outputs = {LOGITS: outputs[LOGITS][rows, last][:, None]}
        return {spec.name: outputs[spec.name].cpu().numpy() for spec in self.signature.outputs}

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """Outputs and computed buckets; the outputs use the `forced` buckets if given."""
        records: list[_Record | None] = [None] * len(self._layers)
        for index, layer in enumerate(self._layers):
            layer._hash_vectors = functools.partial(
                self._hash,
                layer._hash_vectors,
                records,
                index,
                None if forced is None else forced[index],
            )
        try:
            outputs = self.run(inputs)
        finally:
            for layer in self._layers:
                del layer._hash_vectors
        return Probe(
            outputs,
            [None if record is None else record.buckets for record in records],
            functools.partial(self._margins, records),
        )

    def _hash(
        self,
        original: Callable[..., torch.Tensor],
        records: list[_Record | None],
        index: int,
        forced: Array | None,
        vectors: torch.Tensor,
        num_hashes: int,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        offset_buckets = original(vectors, num_hashes, attention_mask, **kwargs)
        batch, heads, length, _ = vectors.shape
        shape = (batch, heads, num_hashes, length)
        padded = attention_mask is not None and not bool(attention_mask.all())
        stride = self._config.bucket_count + int(padded)
        offsets = (torch.arange(num_hashes) * stride)[:, None]
        computed = (offset_buckets.reshape(shape) - offsets).to(torch.int32).numpy()
        records[index] = _Record(computed, vectors)
        if forced is None:
            return offset_buckets
        return (torch.from_numpy(forced).to(torch.int64) + offsets).reshape(batch, heads, -1)

    def _margins(self, records: list[_Record | None], layer: int, where: Any) -> Any:
        record = records[layer]
        if record is None:
            return np.empty(0)
        query = record.vectors.transpose(1, 2)
        return decision_margins(query, self._rotations, self._config.num_buckets or (), where)

    def close(self) -> None:
        """Do nothing: the runner holds no resource open."""


class _Record:
    """The vectors that one layer hashed, and their buckets."""

    def __init__(self, buckets: Array, vectors: torch.Tensor) -> None:
        self.buckets = buckets
        self.vectors = vectors
