"""GPU memory through the package that is installed: cuda-bindings, else torch with CUDA."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from reformer_export.errors import InferenceError, MissingDependencyError
from reformer_export.host.optional import require
from reformer_export.runtimes.base import Array


class DeviceMemory(Protocol):
    """The buffers of one run, on one stream of the first GPU."""

    name: str
    stream: int

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes, which are kept until `reset`; returns the address."""
        ...

    def upload(self, array: Array) -> int:
        """Copy a C-contiguous array to the GPU; returns the address of the copy."""
        ...

    def download(self, address: int, array: Array) -> None:
        """Copy an allocation into a C-contiguous array; complete after `synchronize`."""
        ...

    def synchronize(self) -> None:
        """Wait for the stream."""
        ...

    def reset(self) -> None:
        """Free all allocations."""
        ...


def open_memory() -> DeviceMemory:
    """GPU memory through cuda-bindings if it is installed, else through torch.

    Raises:
        MissingDependencyError: neither cuda-bindings nor a torch with CUDA is installed.
    """
    try:
        return BindingsMemory()
    except MissingDependencyError:
        torch = require("torch", purpose="memory on the GPU", package="cuda-bindings")
        if not torch.cuda.is_available():
            raise MissingDependencyError(
                f"memory on the GPU needs cuda-bindings or a torch with CUDA, found torch "
                f"{torch.__version__} without: pip install cuda-bindings"
            ) from None
        return TorchMemory(torch)


class BindingsMemory:
    """GPU memory through NVIDIA's own bindings of the CUDA runtime."""

    name = "cuda-bindings"

    def __init__(self) -> None:
        self._cuda = require(
            "cuda.bindings.runtime", purpose="memory on the GPU", package="cuda-bindings"
        )
        self._held: list[int] = []
        self._uploads: list[Array] = []  # kept alive until they have been copied
        self.stream: int = int(self._call("cudaStreamCreate"))

    def allocate(self, size: int) -> int:
        """The address of `size` bytes."""
        address = int(self._call("cudaMalloc", max(size, 1)))
        self._held.append(address)
        return address

    def upload(self, array: Array) -> int:
        """The address of a copy."""
        address = self.allocate(array.nbytes)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._uploads.append(array)
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self.stream)
        return address

    def download(self, address: int, array: Array) -> None:
        """Copy an allocation into an array."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self.stream)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._call("cudaStreamSynchronize", self.stream)
        self._uploads.clear()

    def reset(self) -> None:
        """Free everything."""
        while self._held:
            self._call("cudaFree", self._held.pop())

    def _call(self, function: str, *arguments: Any) -> Any:
        status, *results = getattr(self._cuda, function)(*arguments)
        if int(status) != 0:
            raise InferenceError(f"{function} failed with {status}")
        return results[0] if results else None


class TorchMemory:
    """GPU memory through torch's allocator."""

    name = "torch"

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._stream = torch.cuda.Stream()
        self.stream: int = self._stream.cuda_stream
        self._held: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        """The address of `size` bytes."""
        tensor = self._torch.empty(max(size, 1), dtype=self._torch.uint8, device="cuda")
        self._held[tensor.data_ptr()] = tensor
        return int(tensor.data_ptr())

    def upload(self, array: Array) -> int:
        """The address of a copy."""
        address = self.allocate(array.nbytes)
        source = self._torch.from_numpy(array.reshape(-1).view(np.uint8))
        with self._torch.cuda.stream(self._stream):
            self._held[address].copy_(source)
        return address

    def download(self, address: int, array: Array) -> None:
        """Copy an allocation into an array."""
        target = self._torch.from_numpy(array.reshape(-1).view(np.uint8))
        with self._torch.cuda.stream(self._stream):
            target.copy_(self._held[address][: array.nbytes])

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def reset(self) -> None:
        """Free everything."""
        self._held.clear()
