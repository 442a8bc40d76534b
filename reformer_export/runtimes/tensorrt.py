"""Runs an engine of TensorRT or TensorRT-RTX on a GPU.

Everything that needs no GPU (the folder, its hashes, the library and its release; in a run, the
inputs) is checked before CUDA is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reformer_export.artifact.engine import Engine, Profile
from reformer_export.artifact.signature import INPUT_IDS
from reformer_export.errors import InferenceError, InputError, RuntimeUnavailableError
from reformer_export.host.gpu import require_gpu
from reformer_export.host.tensorrt_library import Library, check_gpu, load_library, make_logger
from reformer_export.runtimes.base import Array, Arrays
from reformer_export.runtimes.cuda_memory import DeviceMemory, open_memory

_NUMPY = {"int64": np.int64, "float32": np.float32, "float16": np.float16}


class TensorRTRunner:
    """An engine on the first GPU. The engine itself pads sequences to whole chunks."""

    name = "tensorrt"

    def __init__(self, engine: Engine) -> None:
        """Load the engine.

        Raises:
            MissingDependencyError: its TensorRT, or a package for GPU memory, is not installed.
            RuntimeUnavailableError: the library is of another release, or refuses the engine.
            DeviceUnavailableError: there is no GPU, or the library does not support it.
        """
        record = engine.record
        self.signature = engine.signature
        self._profiles = record.profiles
        library = load_library(record.flavor, purpose=f"running {engine.path}")
        _check_release(library, engine)
        gpu = require_gpu(f"running {engine.path}, a {library.flavor.title} engine,")
        check_gpu(library, gpu)
        self._memory: DeviceMemory = open_memory()
        self._trt = library.trt
        self._logger = make_logger(library, None)
        self._runtime = self._trt.Runtime(self._logger)
        self._engine: Any = self._runtime.deserialize_cuda_engine(engine.engine_path.read_bytes())
        if self._engine is None:
            raise RuntimeUnavailableError(
                f"{library} refuses {engine.path} on {gpu}: {self._reason()}; it was built for "
                f"{', '.join(record.targets) or 'the GPU of another machine'}"
            )
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise RuntimeUnavailableError(f"{library} cannot run {engine.path}: {self._reason()}")
        self._profile = 0
        self.description = f"{library} on {gpu}, {record.dtype}, {self._memory.name} memory"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        inputs = self.signature.check(inputs)
        batch, length = inputs[INPUT_IDS].shape
        stream = self._memory.stream
        self._select(choose_profile(self._profiles, batch, length), stream)
        self._memory.reset()
        for spec in self.signature.inputs:
            array = np.ascontiguousarray(inputs[spec.name], _NUMPY[spec.dtype])
            self._context.set_input_shape(spec.name, array.shape)
            self._context.set_tensor_address(spec.name, self._memory.upload(array))
        outputs: dict[str, Array] = {}
        places: dict[str, int] = {}
        for spec in self.signature.outputs:
            outputs[spec.name] = np.empty(spec.shape(batch, length), _NUMPY[spec.dtype])
            places[spec.name] = self._memory.allocate(outputs[spec.name].nbytes)
            self._context.set_tensor_address(spec.name, places[spec.name])
        if not self._context.execute_async_v3(stream):
            raise InferenceError(
                f"the engine failed on {batch} x {length} tokens: {self._reason()}"
            )
        for name, array in outputs.items():
            self._memory.download(places[name], array)
        self._memory.synchronize()
        return outputs

    def close(self) -> None:
        """Free the engine and its memory."""
        self._memory.reset()
        self._context = self._engine = None

    def _select(self, profile: int, stream: int) -> None:
        if profile != self._profile:
            self._context.set_optimization_profile_async(profile, stream)
            self._profile = profile

    def _reason(self) -> str:
        errors = self._logger.errors
        return errors[-1] if errors else "it gives no reason"


def choose_profile(profiles: tuple[Profile, ...], batch: int, length: int) -> int:
    """The index of the profile for an input: of those that accept it, the one tuned for the nearest
    length.

    Raises:
        InputError: no profile accepts it.
    """
    fitting = [index for index, profile in enumerate(profiles) if profile.takes(batch, length)]
    if not fitting:
        shapes = "; ".join(map(str, profiles))
        raise InputError(
            f"the engine was not built for {batch}x{length} tokens: it takes {shapes}; build one "
            "with other --minShapes and --maxShapes"
        )
    return min(fitting, key=lambda index: abs(profiles[index].usual.length - length))


def _check_release(library: Library, engine: Engine) -> None:
    """Raises RuntimeUnavailableError unless the library is of the release that built the engine."""
    wanted = engine.record.version
    if library.version != wanted:
        raise RuntimeUnavailableError(
            f"{engine.path} was built by {library.flavor.title} {wanted}, and {library.version} is "
            f"installed: pip install {library.flavor.package}=={wanted}, or build it again"
        )
