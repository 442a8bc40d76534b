"""Our torch model on any device, as comparisons know runtimes."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np
import torch

from reformer_export.runtimes.base import Array, Arrays, Buckets, Probe
from reformer_export.runtimes.torch_margins import decision_margins
from reformer_export.signature import ATTENTION_MASK, INPUT_IDS, Signature
from reformer_models.hashing import BucketTrace
from reformer_models.loading import LoadedModel
from reformer_ops.torch_library import decomposed


class DeviceRunner:
    """A `ProbingRunner` of a model that lies on `device`; `portable` runs no kernel of ours."""

    name = "torch"

    def __init__(
        self, loaded: LoadedModel, signature: Signature, device: str, *, portable: bool = False
    ) -> None:
        self.signature = signature
        self.description = f"torch {torch.__version__} on {device}"
        self._loaded, self._device = loaded, device
        self._operators = decomposed if portable else contextlib.nullcontext

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Outputs by name."""
        return self._run(inputs, None)

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """Outputs and buckets; with `forced` ones where given."""
        given = None if forced is None else [self._buckets(each) for each in forced]
        trace = BucketTrace(given)
        outputs = self._run(inputs, trace)
        buckets = [computed.cpu().numpy() for computed in trace.computed]
        return Probe(outputs, buckets, functools.partial(self._margins, trace.queries))

    def tensors(self, inputs: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask on the device."""
        ids, mask = (torch.from_numpy(inputs[name]) for name in (INPUT_IDS, ATTENTION_MASK))
        return ids.to(self._device), mask.to(self._device)

    def close(self) -> None:
        """Nothing is held open."""

    def _run(self, inputs: Arrays, trace: BucketTrace | None) -> dict[str, Array]:
        with torch.inference_mode(), self._operators():
            outputs = self._loaded.model(*self.tensors(inputs), trace)
        return {name: _array(tensor) for name, tensor in outputs.items()}

    def _buckets(self, buckets: Array | None) -> torch.Tensor | None:
        if buckets is None:
            return None
        return torch.from_numpy(np.ascontiguousarray(buckets)).to(self._device)

    def _margins(self, queries: list[torch.Tensor], layer: int, where: Any) -> Any:
        factors = self._loaded.config.num_buckets or ()
        rotations = list(self._loaded.rotations.values())[layer]
        return decision_margins(queries[layer].cpu(), rotations.cpu(), factors, where)


def _array(tensor: torch.Tensor) -> Array:
    """On the CPU; bf16 as fp32, since NumPy has none."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
