"""Runs our torch model: what an artifact is exported from and compared with."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reformer_export.runtimes.base import Array, Arrays, Buckets, Probe
from reformer_export.runtimes.torch_margins import decision_margins
from reformer_export.signature import ATTENTION_MASK, INPUT_IDS, Signature
from reformer_export.source import new_trace
from reformer_ops import native_status

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel


class TorchRunner:
    """Our model in torch, on the CPU, in the type it was loaded with."""

    name = "torch"

    def __init__(self, loaded: LoadedModel, signature: Signature) -> None:
        self.signature = signature
        self._loaded = loaded
        self.description = (
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
            f"{native_status('torch')}"
        )

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Outputs by name."""
        with torch.inference_mode():
            outputs = self._loaded.model(*_tensors(inputs))
        return _arrays(outputs)

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """Outputs and buckets; with `forced` ones where given."""
        trace = new_trace(None if forced is None else [_bucket_tensor(b) for b in forced])
        with torch.inference_mode():
            outputs = self._loaded.model(*_tensors(inputs), trace)
        return Probe(
            _arrays(outputs),
            [computed.numpy() for computed in trace.computed],
            functools.partial(self._margins, trace.queries),
        )

    def _margins(self, queries: list[torch.Tensor], layer: int, where: Any) -> Any:
        factors = self._loaded.config.num_buckets or ()
        rotations = list(self._loaded.rotations.values())[layer]
        return decision_margins(queries[layer], rotations, factors, where)

    def close(self) -> None:
        """Nothing is held open."""


def _tensors(inputs: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = (
        torch.from_numpy(np.ascontiguousarray(inputs[n])) for n in (INPUT_IDS, ATTENTION_MASK)
    )
    return ids, mask


def _arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Tensors as arrays; NumPy has no bf16, so that comes as fp32."""
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in outputs.items()
    }


def _bucket_tensor(buckets: Array | None) -> torch.Tensor | None:
    return None if buckets is None else torch.from_numpy(np.ascontiguousarray(buckets))
