"""Builds a serialised engine from an ONNX file, with TensorRT's parser and builder."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_export.artifact.engine import Layer, Profile
from reformer_export.artifact.signature import Signature
from reformer_export.errors import DeviceUnavailableError, ExportError, UsageError
from reformer_export.host.gpu import require_gpu
from reformer_export.host.tensorrt_library import (
    Library,
    Log,
    known_targets,
    make_logger,
    tidy_message,
)

Progress = Callable[[str], None]

_PHASES_TOLD = 3  # levels of the library's phases that are reported
_NODE = re.compile(r"\[ONNX Layer: (.*)\]")


@dataclass(frozen=True)
class BuildOptions:
    """Options of the builder.

    Attributes:
        targets: GPUs to build for, such as "sm80"; the library's default if empty. RTX only.
        workspace: MB of scratch memory that the engine may use; the library decides if None.
        timing_cache: a file of timings, read if it exists and written after the build. Standard
            only.
        version_compatible: the engine also runs in later releases of the library. Standard only.
        hardware_compatible: the engine runs on Ampere and every later GPU. Standard only.
    """

    targets: tuple[str, ...] = ()
    workspace: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


def default_targets(library: Library) -> tuple[str, ...]:
    """The targets of a build that names none: Ampere and later."""
    return tuple(name for name in known_targets(library) if int(name[2:]) >= 80)


class EngineBuilder:
    """Parses one graph and builds engines from it."""

    def __init__(self, library: Library, log: Log | None = None) -> None:
        """Raises DeviceUnavailableError if the library needs a GPU to build and there is none."""
        if library.flavor.name == "standard":
            try:
                require_gpu("building an engine with the standard TensorRT")
            except DeviceUnavailableError as error:
                raise DeviceUnavailableError(
                    f"{error}: build where the engine is to run, or with --flavor rtx, which "
                    "builds without one"
                ) from error
        self._library, self._trt = library, library.trt
        self._logger = make_logger(library, log)
        self._builder = self._trt.Builder(self._logger)
        self._network: Any = None
        self._parser: Any = None  # it owns the weights that the network refers to

    def parse(self, path: Path, signature: Signature) -> tuple[Layer, ...]:
        """Parse the graph at `path`; returns the layers of the network.

        Raises:
            ExportError: the parser rejects the graph, or the inputs and outputs of the network
                differ from those of `signature`.
        """
        trt = self._trt
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self._network = self._builder.create_network(typed)
        self._parser = trt.OnnxParser(self._network, self._logger)
        if not self._parser.parse_from_file(str(path)):
            errors = [self._parser.get_error(i) for i in range(self._parser.num_errors)]
            first = errors[0] if errors else None
            reason = tidy_message(first.desc()) if first else self._reason()
            place = f" at {first.node_name()}" if first and first.node_name() else ""
            raise ExportError(
                f"the parser of {self._library} does not take the graph{place}: {reason}"
            )
        self._check_interface(signature)
        return tuple(map(self._layer, range(self._network.num_layers)))

    def build(
        self, profiles: Sequence[Profile], options: BuildOptions, progress: Progress
    ) -> tuple[Any, float]:
        """Build the engine; returns it as a buffer, with the seconds of the build.

        Raises:
            UsageError: the library refuses a profile.
            ExportError: the build failed; the message has the library's reason and advice.
        """
        config = self._config(options)
        for profile in profiles:
            self._add_profile(config, profile)
        monitor = _monitor(self._trt, progress)
        config.progress_monitor = monitor
        cache = self._timing_cache(config, options.timing_cache)
        start = time.perf_counter()
        data = self._build(config, monitor)
        seconds = time.perf_counter() - start
        if data is None:
            raise ExportError(
                f"{self._library} could not build the engine: {self._reason()}. Smaller shapes "
                "(--maxShapes), another --dtype or fewer targets may build; -v shows its log"
            )
        if cache is not None and options.timing_cache is not None:
            options.timing_cache.write_bytes(memoryview(config.get_timing_cache().serialize()))
        return data, seconds

    def _build(self, config: Any, monitor: Any) -> Any:
        """Run the library's build in a separate thread, so that Ctrl-C works during the build."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(self._builder.build_serialized_network, self._network, config)
            try:
                data = future.result()
            except BaseException as error:
                monitor.interruption = error
                raise  # after the thread has ended: the library stops at its next step
        if monitor.interruption is not None:
            raise monitor.interruption
        return data

    def _config(self, options: BuildOptions) -> Any:
        trt = self._trt
        config = self._builder.create_builder_config()
        # TF32 keeps ten bits of the fraction, so hashing would give different buckets.
        config.clear_flag(trt.BuilderFlag.TF32)
        if options.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
        if options.targets:
            known = known_targets(self._library)
            config.num_compute_capabilities = len(options.targets)
            for index, target in enumerate(options.targets):
                config.set_compute_capability(known[target], index)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatible:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        return config

    def _timing_cache(self, config: Any, path: Path | None) -> Any:
        if path is None:
            return None
        cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
        return cache

    def _add_profile(self, config: Any, profile: Profile) -> None:
        added = self._builder.create_optimization_profile()
        shapes = [
            (extent.batch, extent.length)
            for extent in (profile.smallest, profile.usual, profile.largest)
        ]
        for index in range(self._network.num_inputs):
            added.set_shape(self._network.get_input(index).name, *shapes)
        if config.add_optimization_profile(added) < 0:
            raise UsageError(f"{self._library} refuses the shapes {profile}: {self._reason()}")

    def _check_interface(self, signature: Signature) -> None:
        network = self._network
        found = [
            (tensor.name, str(tensor.dtype).removeprefix("DataType."), len(tensor.shape))
            for tensor in (
                *(network.get_input(i) for i in range(network.num_inputs)),
                *(network.get_output(i) for i in range(network.num_outputs)),
            )
        ]
        kinds = {"int64": "INT64", "float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}
        wanted = [
            (spec.name, kinds[spec.dtype], len(spec.axes))
            for spec in (*signature.inputs, *signature.outputs)
        ]
        if found != wanted:
            raise ExportError(f"{self._library} parsed the graph as {found}, expected {wanted}")

    def _layer(self, index: int) -> Layer:
        layer = self._network.get_layer(index)
        node = _NODE.match(layer.metadata or "")
        outputs = (layer.get_output(i) for i in range(layer.num_outputs))
        return Layer(
            layer.name,
            layer.type.name.lower(),
            node[1] if node else None,
            tuple(tensor.dtype.name.lower() for tensor in outputs if tensor is not None),
        )

    def _reason(self) -> str:
        return self._logger.errors[0] if self._logger.errors else "it gives no reason (see -v)"


def _monitor(trt: Any, progress: Progress) -> Any:
    """Reports the main phases of a build; stops it after Ctrl-C or an error of `progress`."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interruption: BaseException | None = None
            self._depths: dict[str | None, int] = {None: 0}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            # No exception may pass through the library: `_build` raises it after that returns.
            try:
                depth = self._depths.get(parent, 0) + 1
                self._depths[phase] = depth
                if depth <= _PHASES_TOLD:
                    progress(f"building: {phase[:1].lower()}{phase[1:]}")
            except BaseException as error:
                self.interruption = self.interruption or error

        def step_complete(self, phase: str, step: int) -> bool:
            return self.interruption is None

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()
