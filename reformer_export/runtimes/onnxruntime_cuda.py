"""ONNX Runtime on a GPU: options of the CUDA provider, buffers on the device, CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import CUDA as KERNELS
from reformer_export.artifact.signature import Signature, TensorSpec
from reformer_export.errors import DeviceUnavailableError, RuntimeUnavailableError, UsageError
from reformer_export.host.device import Device
from reformer_export.host.gpu import require_gpu
from reformer_export.runtimes.base import Array, Arrays
from reformer_export.runtimes.cuda_graphs import TURNS, RecurringShapes, Shape

PROVIDER = "CUDAExecutionProvider"

_GRAPH_ID = "gpu_graph_id"
_NO_GRAPH = "-1"

PACKAGES = 'pip install "onnxruntime-gpu[cuda,cudnn]"'
"""The command that installs ONNX Runtime and all that it needs except the driver. Only function
bodies need cuDNN."""


def prepare_onnxruntime(onnxruntime: Any, device: Device) -> None:
    """Load CUDA's libraries, which may be in packages from pip.

    Raises:
        RuntimeUnavailableError: this onnxruntime does not support CUDA.
        DeviceUnavailableError: there is no such GPU.
    """
    if PROVIDER not in onnxruntime.get_available_providers():
        raise RuntimeUnavailableError(
            f"onnxruntime {onnxruntime.__version__} has no {PROVIDER}: pip uninstall onnxruntime, "
            f"then {PACKAGES}"
        )
    require_gpu(f"running on {device}", index=device.index)
    if hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(StringIO()):  # it also prints libraries that are not needed
            onnxruntime.preload_dlls()


def provider_options(device: Device, *, graphs: bool) -> dict[str, str]:
    """The options of the CUDA provider with which models are verified."""
    return {
        "device_id": str(device.index),
        # TF32 rounds the factors of fp32 products to 11 bits.
        "use_tf32": "0",
        # Otherwise fp16 norms are summed in fp16.
        "enable_skip_layer_norm_strict_mode": "1",
        "enable_cuda_graph": "1" if graphs else "0",
    }


def kernels_of(artifact: Artifact) -> str:
    """The path of model.cuda; raises UsageError, with the command that creates it, if missing."""
    if KERNELS not in artifact.formats:
        raise UsageError(
            f"{artifact.path} has no kernels for GPUs: add them with reformer-export add-kernels "
            f"{artifact.path}, or give --ops portable, which takes many times as long"
        )
    return str(artifact.format_path(KERNELS))


def check_placed(session: Any, device: Device) -> None:
    """Raises DeviceUnavailableError if ONNX Runtime uses the CPU without an error."""
    if PROVIDER not in session.get_providers():
        raise DeviceUnavailableError(
            f"onnxruntime cannot use {device}: a library of CUDA that it needs does not load, see "
            f"reformer-export doctor; most come with {PACKAGES}"
        )


class Prepared:
    """One input shape with its buffers on the GPU, for any number of runs.

    Only one thread at a time may use it.
    """

    def __init__(
        self,
        session: Any,
        onnxruntime: Any,
        signature: Signature,
        device: Device,
        shape: Shape,
        graph: int | None,
    ) -> None:
        self._session = session
        self._options = run_options(onnxruntime, graph)
        self._binding = session.io_binding()
        self._captures = graph is not None
        """True if the next run is captured, which is only the first one."""

        def room(spec: TensorSpec) -> Any:
            sizes = spec.shape(*shape)
            return onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                list(sizes), np.dtype(spec.dtype), device.kind, device.index
            )

        self._inputs = {spec.name: room(spec) for spec in signature.inputs}
        self._outputs = {spec.name: room(spec) for spec in signature.outputs}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def feed(self, inputs: Arrays) -> None:
        """Replace the contents of the inputs; the shapes must be the same."""
        with TURNS.running():
            self._feed(inputs)

    def run(self) -> None:
        """Compute the outputs; returns when the GPU has finished."""
        with self._turn():
            self._run()

    def fetch(self) -> dict[str, Array]:
        """The outputs, copied to the CPU."""
        with TURNS.running():
            return self._fetch()

    def run_on(self, inputs: Arrays) -> dict[str, Array]:
        """Do all three: feed, run and fetch."""
        with self._turn():
            self._feed(inputs)
            self._run()
            return self._fetch()

    def _turn(self) -> AbstractContextManager[None]:
        return TURNS.capturing() if self._captures else TURNS.running()

    def _feed(self, inputs: Arrays) -> None:
        for name, value in self._inputs.items():
            value.update_inplace(np.ascontiguousarray(inputs[name]))

    def _run(self) -> None:
        self._session.run_with_iobinding(self._binding, self._options)
        self._captures = False

    def _fetch(self) -> dict[str, Array]:
        return {name: value.numpy() for name, value in self._outputs.items()}


class DeviceSession:
    """A session on a GPU. If `graphs` is true, repeated shapes are captured as CUDA graphs."""

    def __init__(
        self, session: Any, onnxruntime: Any, signature: Signature, device: Device, *, graphs: bool
    ) -> None:
        self.session = session
        self.graphs = graphs
        self._onnxruntime = onnxruntime
        self._signature = signature
        self._device = device
        self._recurring = RecurringShapes(self._capture)
        self._turn = threading.Lock()

    @property
    def captured(self) -> tuple[Shape, ...]:
        """The captured shapes."""
        return self._recurring.shapes

    def run(self, names: Sequence[str], inputs: Arrays) -> list[Array]:
        """The outputs with these names."""
        if not self.graphs:
            with TURNS.running():
                results: list[Array] = self.session.run(list(names), dict(inputs))
                return results
        # One run at a time: a captured graph keeps intermediate results at fixed addresses, which
        # other runs also use.
        with self._turn:
            prepared = self._recurring.get(self._signature.extent(inputs))
            if prepared is None:
                options = run_options(self._onnxruntime, None)
                with TURNS.running():
                    results = self.session.run(list(names), dict(inputs), options)
                    return results
            outputs = prepared.run_on(inputs)
            return [outputs[name] for name in names]

    def prepare(self, inputs: Arrays) -> Prepared:
        """Buffers for these inputs; with a CUDA graph if one more is allowed."""
        shape = self._signature.extent(inputs)
        with self._turn:
            prepared = self._recurring.capture(shape) if self.graphs else None
            prepared = prepared or self._prepared(shape, None)
            prepared.feed(inputs)
        return prepared

    def _capture(self, shape: Shape, already: int) -> Prepared:
        return self._prepared(shape, already + 1)

    def _prepared(self, shape: Shape, graph: int | None) -> Prepared:
        with TURNS.running():  # it allocates
            return Prepared(
                self.session, self._onnxruntime, self._signature, self._device, shape, graph
            )


def run_options(onnxruntime: Any, graph: int | None) -> Any:
    """The options of one run. `graph` is the id of the graph to capture or replay, or None."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(_GRAPH_ID, _NO_GRAPH if graph is None else str(graph))
    return options


@contextmanager
def opening_session(onnxruntime: Any) -> Iterator[None]:
    """A context for creating a session. It hides warnings, which on a GPU concern only optional
    plugins."""
    onnxruntime.set_default_logger_severity(3)
    try:
        with TURNS.running():  # it allocates
            yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # the default
