"""Runs our torch model: what an artifact is exported from and compared with."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reformer_export.runtimes.base import Array, Arrays, Buckets, Probe
from reformer_export.runtimes.torch_files import tensors, use_threads
from reformer_export.runtimes.torch_margins import decision_margins
from reformer_export.signature import Signature
from reformer_export.source import load_original, new_trace
from reformer_ops import library_path, native_status
from reformer_ops.native import Choice
from reformer_ops.torch_library import decomposed

if TYPE_CHECKING:
    from reformer_export.artifact import Artifact
    from reformer_export.source import LoadedModel


def open_original(
    artifact: Artifact, threads: int | None = None, ops: Choice = "auto"
) -> TorchRunner:
    """The model that an artifact was exported from; raises as `load_original`."""
    use_threads(threads)
    return TorchRunner(load_original(artifact.manifest), artifact.signature, ops)


class TorchRunner:
    """Our model in torch, on the CPU, in the type it was loaded with.

    `ops` "portable" does without native operators even where they are loaded, "native" insists on
    them (NativeLibraryError).
    """

    name = "torch"

    def __init__(self, loaded: LoadedModel, signature: Signature, ops: Choice = "auto") -> None:
        if ops == "native" and not native_status("torch").available:
            library_path("torch")  # says where it was looked for
        self.signature = signature
        self._loaded = loaded
        self._operators = decomposed if ops == "portable" else contextlib.nullcontext
        operators = "portable operators" if ops == "portable" else native_status("torch")
        self.description = f"torch {torch.__version__}, {use_threads(None)}, {operators}"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Outputs by name."""
        with torch.inference_mode(), self._operators():
            outputs = self._loaded.model(*tensors(inputs))
        return _arrays(outputs)

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """Outputs and buckets; with `forced` ones where given."""
        trace = new_trace(None if forced is None else [_bucket_tensor(b) for b in forced])
        with torch.inference_mode(), self._operators():
            outputs = self._loaded.model(*tensors(inputs), trace)
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


def _arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Tensors as arrays; NumPy has no bf16, so that comes as fp32."""
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in outputs.items()
    }


def _bucket_tensor(buckets: Array | None) -> torch.Tensor | None:
    return None if buckets is None else torch.from_numpy(np.ascontiguousarray(buckets))
