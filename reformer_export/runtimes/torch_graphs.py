"""Runs a torch model on a GPU, and replays runs as CUDA graphs when a shape is repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from reformer_export.runtimes.cuda_graphs import TURNS, RecurringShapes, Shape

Outputs = Mapping[str, torch.Tensor]
Model = Callable[[torch.Tensor, torch.Tensor], Outputs]

_WARM_UPS = 2
"""Runs before the capture; the first one compiles and loads kernels."""


@dataclass(frozen=True)
class _Captured:
    """A graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[torch.Tensor, torch.Tensor]
    outputs: Outputs


class TorchGraphs:
    """A model with inputs token ids and mask, both int64 `[batch, length]`, on one GPU."""

    def __init__(self, model: Model, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._recurring = RecurringShapes(self._capture)
        self._turn = threading.Lock()

    def run(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """The model's outputs, as tensors that later runs do not change."""
        with self._turn:
            captured = self._recurring.get(tuple(ids.shape))
            with TURNS.running():
                if captured is None:
                    return dict(self._model(ids, mask))
                for place, given in zip(captured.inputs, (ids, mask), strict=True):
                    place.copy_(given)
                captured.graph.replay()
                return {name: tensor.clone() for name, tensor in captured.outputs.items()}

    def _capture(self, shape: Shape, already: int) -> _Captured:
        with torch.cuda.device(self._device), TURNS.capturing():
            return self._captured(shape)

    def _captured(self, shape: Shape) -> _Captured:
        ids = torch.zeros(shape, dtype=torch.int64, device=self._device)
        mask = torch.ones_like(ids)
        # As torch requires, the warm-up uses another stream than the capture.
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._model(ids, mask)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._model(ids, mask)
        return _Captured(graph, (ids, mask), outputs)
