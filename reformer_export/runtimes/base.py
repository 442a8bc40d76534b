"""The interface of every runtime; comparison and benchmarks use only this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact.signature import Signature
from reformer_export.host.device import CPU, Device, GraphChoice
from reformer_ops.core.native import Choice

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Buckets = Sequence[Array | None]
"""One array for each LSH layer: `[batch, heads, num_hashes, padded_length]` int32; None if the
runtime did not hash, because the sequence is not longer than a chunk."""


@dataclass(frozen=True)
class RunnerOptions:
    """The options for running a model.

    Attributes:
        threads: the maximum number of CPU threads; if None, the runtime chooses.
        ops: "native" runs the operators with our kernels, "portable" with their standard bodies.
            "auto" follows REFORMER_OPS; if that is not set, it uses our kernels if they are
            installed.
        device: the device that runs the model.
        cuda_graph: on a GPU, "auto" captures runs as CUDA graphs when a shape is repeated; "off"
            captures none.
        spinning: threads that wait for the next operator keep their core busy, which is faster
            unless other processes need the cores. Only ONNX Runtime can be told not to.
    """

    threads: int | None = None
    ops: Choice = "auto"
    device: Device = field(default_factory=lambda: Device(CPU))
    cuda_graph: GraphChoice = "auto"
    spinning: bool = True


class Runner(Protocol):
    """A model that is ready to run.

    `name` is short and stable ("onnxruntime"); `description` gives versions, threads and kernels.
    """

    name: str
    description: str
    signature: Signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name. Raises InputError if `Signature.check` refuses the inputs."""
        ...

    def close(self) -> None:
        """Free memory and devices. The runner cannot be used afterwards."""
        ...


@dataclass(frozen=True)
class Probe:
    """The outputs and the buckets of one run.

    `margins(layer, where)` returns the margins of hashing decisions, for indices into that layer's
    buckets: the distance of the best bucket from the second best, relative to a usual projection.
    `margins` is None if the runtime cannot compute them.
    """

    outputs: dict[str, Array]
    buckets: Buckets
    margins: Callable[[int, tuple[NDArray[np.intp], ...]], NDArray[np.float64]] | None = None


@runtime_checkable
class ProbingRunner(Runner, Protocol):
    """A runner that reports its buckets and can use given ones instead."""

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """Run and report the buckets that each LSH layer computed.

        With `forced`, one array for each layer, the layers use those buckets for attention. Later
        layers then receive the same inputs in all runtimes, so each decision can be compared.
        """
        ...


@runtime_checkable
class ShowingRunner(Runner, Protocol):
    """A runner that reports the buckets it used, but cannot use given ones.

    Compiled code is an example. In a comparison, the reference uses the runner's buckets instead.
    """

    def show(self, inputs: Arrays) -> Probe:
        """Run and report the buckets that each LSH layer computed and used; margins are None."""
        ...
