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
"""For each LSH layer `[batch, heads, num_hashes, padded_length]` int32; None if a runtime did
not hash, because the sequence is not longer than a chunk."""


@dataclass(frozen=True)
class RunnerOptions:
    """How a model is run.

    Attributes:
        threads: of the CPU, at most; the runtime's own choice where None.
        ops: "native" runs the operators by our kernels, "portable" by their standard bodies; "auto"
            does what REFORMER_OPS says, else what is installed.
        device: where.
        cuda_graph: on a GPU, "auto" captures the runs of shapes that come again as CUDA graphs.
    """

    threads: int | None = None
    ops: Choice = "auto"
    device: Device = field(default_factory=lambda: Device(CPU))
    cuda_graph: GraphChoice = "auto"


class Runner(Protocol):
    """A model ready to run.

    `name` is short and stable ("onnxruntime"), `description` says versions, threads and kernels.
    """

    name: str
    description: str
    signature: Signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Outputs by name, of whatever `Signature.check` takes; InputError for anything else."""
        ...

    def close(self) -> None:
        """Give back memory and devices. The runner is of no use afterwards."""
        ...


@dataclass(frozen=True)
class Probe:
    """One run and what it hashed to.

    `margins(layer, where)` gives the margin of decisions: the distance of the best from the second
    best, relative to a usual projection, for indices into that layer's buckets; None for runtimes
    that can't say.
    """

    outputs: dict[str, Array]
    buckets: Buckets
    margins: Callable[[int, tuple[NDArray[np.intp], ...]], NDArray[np.float64]] | None = None


@runtime_checkable
class ProbingRunner(Runner, Protocol):
    """A runner that shows its buckets and can be told to use others."""

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """Run and report the buckets each LSH layer computed.

        With `forced`, one array a layer, those are what the layers attend by. Later layers then see
        what they would see if all runtimes hashed alike, so each decision can be compared.
        """
        ...


@runtime_checkable
class ShowingRunner(Runner, Protocol):
    """A runner that shows the buckets it used, but cannot be told to use others.

    Compiled code is like that. The reference is then given its buckets.
    """

    def show(self, inputs: Arrays) -> Probe:
        """Run and report the buckets each LSH layer computed and used; margins are None."""
        ...
