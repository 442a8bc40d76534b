"""Runs our torch model, from which artifacts are exported and with which they are compared."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reformer_export.artifact.signature import Signature
from reformer_export.host.device import CPU, CUDA, Device, GraphChoice
from reformer_export.runtimes.base import Array, Arrays, Buckets, Probe, RunnerOptions
from reformer_export.runtimes.torch_files import tensors, torch_device, use_threads
from reformer_export.runtimes.torch_graphs import TorchGraphs
from reformer_export.runtimes.torch_margins import decision_margins
from reformer_export.source import SERIES_TASKS, load_original, new_trace
from reformer_ops import library_path, native_status
from reformer_ops.core.native import Choice
from reformer_ops.core.torch_library import decomposed

if TYPE_CHECKING:
    from reformer_export.artifact import Artifact
    from reformer_export.source import LoadedModel


def open_original(artifact: Artifact, options: RunnerOptions | None = None) -> TorchRunner:
    """A runner of the model that an artifact was exported from.

    Raises the errors of `load_original`, and DeviceUnavailableError if this torch cannot use the
    GPU.
    """
    options = options or RunnerOptions()
    use_threads(options.threads)
    loaded = load_original(artifact.manifest)
    return TorchRunner(loaded, artifact.signature, options.ops, options.device, options.cuda_graph)


class TorchRunner:
    """Our model in torch, in the type in which it was loaded.

    `ops` "portable" does not use native operators even if they are loaded; "native" requires them
    (else NativeLibraryError). On a GPU the native operators are Triton kernels, and the model is
    moved to the GPU.
    """

    name = "torch"

    def __init__(
        self,
        loaded: LoadedModel,
        signature: Signature,
        ops: Choice = "auto",
        device: Device | None = None,
        cuda_graph: GraphChoice = "off",
    ) -> None:
        self._device = torch_device(device or Device(CPU))
        on_gpu = self._device.type == CUDA
        if ops == "native" and not on_gpu and not native_status("torch").available:
            library_path("torch")  # raises with the searched places if the library is missing
        self.signature = signature
        self._loaded = loaded
        if on_gpu:
            loaded.model.to(self._device)
        captures = on_gpu and cuda_graph == "auto" and loaded.task not in SERIES_TASKS
        self._replays = TorchGraphs(loaded.model, self._device) if captures else None
        self._operators = decomposed if ops == "portable" else contextlib.nullcontext
        native = "Triton operators" if on_gpu else native_status("torch")
        operators = "portable operators" if ops == "portable" else native
        place = torch.cuda.get_device_name(self._device) if on_gpu else use_threads(None)
        self.description = f"torch {torch.__version__}, {place}, {operators}"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        given = self._tensors(self.signature.check(inputs))
        with torch.inference_mode(), self._operators():
            run = self._loaded.model if self._replays is None else self._replays.run
            outputs = run(*given)
        return _arrays(outputs)

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """The outputs and the computed buckets; the layers use `forced` buckets if given."""
        trace = new_trace(None if forced is None else [self._buckets(b) for b in forced])
        with torch.inference_mode(), self._operators():
            outputs = self._loaded.model(*self._tensors(inputs), source=trace)
        return Probe(
            _arrays(outputs),
            [computed.cpu().numpy() for computed in trace.computed],
            functools.partial(self._margins, trace.queries),
        )

    def _tensors(self, inputs: Arrays) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.to(self._device) for tensor in tensors(self.signature, inputs))

    def _buckets(self, buckets: Array | None) -> torch.Tensor | None:
        if buckets is None:
            return None
        return torch.from_numpy(np.ascontiguousarray(buckets)).to(self._device)

    def _margins(self, queries: list[torch.Tensor], layer: int, where: Any) -> Any:
        factors = self._loaded.config.num_buckets or ()
        rotations = list(self._loaded.rotations.values())[layer].cpu()
        return decision_margins(queries[layer].cpu(), rotations, factors, where)

    def close(self) -> None:
        """Drop the CUDA graphs."""
        self._replays = None


def _arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Tensors as arrays; bf16 becomes fp32, because NumPy has no bf16."""
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
        for name, tensor in outputs.items()
    }
