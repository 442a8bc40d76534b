"""Runs the graphs for generation, decoder_model.onnx and decoder_with_past_model.onnx, in ONNX
Runtime on the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import DECODER, DECODER_FILES, DECODER_WEIGHTS
from reformer_export.artifact.signature import (
    INPUT_IDS,
    LOGITS,
    PAST,
    PAST_LENGTH,
    PRESENT,
    PROMPT_LENGTH,
    require_tokens,
)
from reformer_export.errors import (
    ArtifactError,
    InferenceError,
    RuntimeUnavailableError,
    UsageError,
)
from reformer_export.host.optional import require
from reformer_export.runtimes.base import RunnerOptions
from reformer_export.runtimes.decoder import Decoder, Logits
from reformer_export.runtimes.decoder_cache import Array, Cache, CacheLayout
from reformer_ops.core.native import Choice, register_with_onnxruntime, requested, tuned_options
from reformer_ops.registry import ALL

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int32)": np.dtype(np.int32),
}


@dataclass(frozen=True)
class _Bound:
    """A cache that is bound to the session, and the buffers that a step reads and writes.

    The session stores only addresses, so at every step the bound arrays must still be those of the
    cache.
    """

    arrays: tuple[weakref.ref[Array], ...]
    binding: Any
    tokens: NDArray[np.int64]
    past_length: NDArray[np.int64]
    logits: Array

    def is_of(self, cache: Cache) -> bool:
        """True if the bound arrays are those of `cache`."""
        bound = (array() for array in self.arrays)
        return all(a is b for a, b in zip(bound, _arrays(cache), strict=True))


class OnnxDecoder(Decoder):
    """An artifact's decoder in ONNX Runtime.

    With our kernels a step changes the cache in place, so its time hardly depends on the number of
    tokens. With the ONNX bodies a step copies the cache.
    """

    name = "onnxruntime"

    def __init__(self, artifact: Artifact, options: RunnerOptions | None = None) -> None:
        """Open the decoder of an artifact that has one.

        Raises:
            UsageError: native operators are requested and cannot run it.
            ArtifactError: its manifest does not list the files of a decoder.
            MissingDependencyError: onnxruntime is not installed.
            RuntimeUnavailableError: onnxruntime cannot load the graphs.
            NativeLibraryError: native operators are requested and do not load.
        """
        self._onnxruntime = require("onnxruntime", purpose="running the decoder")
        self._options = options or RunnerOptions()
        self._artifact = artifact
        self.signature = require_tokens(artifact.signature, "generation")
        ops = requested() if self._options.ops == "auto" else self._options.ops
        self._ops = _usable(artifact, ops)
        self._prompt: Any = None
        files = artifact.manifest.formats[DECODER].files
        if len(files) != len((*DECODER_FILES, DECODER_WEIGHTS)):
            raise ArtifactError(f"{artifact.path} lists {len(files)} files of its decoder, not 3")
        self._prompt_file, step_file, weights = files
        self._step, status = self._open(step_file)
        self._in_place = status.available
        self.layout = _layout(artifact.manifest.files[weights].sha256, self._step)
        self._bound: _Bound | None = None
        threads = f"{self._options.threads or 'all'} threads"
        self.description = f"onnxruntime {self._onnxruntime.__version__}, CPU, {threads}, {status}"

    def close(self) -> None:
        """Free the sessions."""
        self._bound = self._prompt = self._step = None

    def _run_prompts(self, ids: NDArray[np.int64]) -> tuple[Logits, Mapping[str, Array]]:
        if self._prompt is None:
            self._prompt, _ = self._open(self._prompt_file)
        return _named(self._run(self._prompt, {INPUT_IDS: ids}))

    def _run_step(self, tokens: NDArray[np.int64], cache: Cache) -> Logits:
        if self._in_place:
            return self._step_in_place(tokens, cache)
        feeds = {PAST + name: tensor for name, tensor in cache.tensors.items()}
        feeds |= {
            INPUT_IDS: tokens[:, None],
            PAST_LENGTH: cache.past_length,
            PROMPT_LENGTH: cache.prompt_length,
        }
        logits, cache.tensors = _named(self._run(self._step, feeds))
        return logits

    def _step_in_place(self, tokens: NDArray[np.int64], cache: Cache) -> Logits:
        bound = self._bound
        if bound is None or not bound.is_of(cache):
            self._bound = bound = self._bind(cache)
        bound.tokens[:, 0], bound.past_length[:] = tokens, cache.past_length
        try:
            self._step.run_with_iobinding(bound.binding)
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise _failure(error) from error
        return bound.logits[:, 0].astype(np.float32)

    def _bind(self, cache: Cache) -> _Bound:
        """Bind the tensors of a cache as inputs and, for changes in place, also as outputs."""
        batch = cache.batch
        tokens = np.zeros((batch, 1), np.int64)
        past_length = np.zeros(batch, np.int64)
        (found,) = (each for each in self._step.get_outputs() if each.name == LOGITS)
        logits = np.zeros((batch, 1, self.signature.vocab_size), _DTYPES[found.type])
        cache.tensors = {n: np.ascontiguousarray(tensor) for n, tensor in cache.tensors.items()}
        binding = self._step.io_binding()

        def bind(bind_one: Any, name: str, array: Array) -> None:
            bind_one(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        bind(binding.bind_input, INPUT_IDS, tokens)
        bind(binding.bind_input, PAST_LENGTH, past_length)
        bind(binding.bind_input, PROMPT_LENGTH, cache.prompt_length)
        bind(binding.bind_output, LOGITS, logits)
        for name, tensor in cache.tensors.items():
            bind(binding.bind_input, PAST + name, tensor)
            bind(binding.bind_output, PRESENT + name, tensor)
        arrays = tuple(map(weakref.ref, _arrays(cache)))
        return _Bound(arrays, binding, tokens, past_length, logits)

    def _open(self, file: str) -> tuple[Any, Any]:
        options = tuned_options(threads=self._options.threads)
        options.log_severity_level = 3
        status = register_with_onnxruntime(options, self._ops)
        try:
            session = self._onnxruntime.InferenceSession(
                str(self._artifact.path / file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # as above
            raise RuntimeUnavailableError(
                f"onnxruntime {self._onnxruntime.__version__} cannot load {file}: {error}"
            ) from error
        return session, status

    @staticmethod
    def _run(session: Any, feeds: dict[str, Array]) -> dict[str, Array]:
        names = [output.name for output in session.get_outputs()]
        try:
            return dict(zip(names, session.run(names, feeds), strict=True))
        except Exception as error:  # as above
            raise _failure(error) from error


def _named(outputs: dict[str, Array]) -> tuple[Logits, dict[str, Array]]:
    """Logits `[batch, vocab_size]`, and the cache's tensors by name."""
    logits = outputs.pop(LOGITS)[:, 0].astype(np.float32)
    return logits, {name.removeprefix(PRESENT): value for name, value in outputs.items()}


def _arrays(cache: Cache) -> tuple[Array, ...]:
    """The arrays of a cache that are bound to a session."""
    return (cache.prompt_length, *cache.tensors.values())


def _failure(error: Exception) -> InferenceError:
    return InferenceError(f"onnxruntime failed to generate: {' '.join(str(error).split())}")


def _layout(model: str, session: Any) -> CacheLayout:
    tensors = {
        each.name.removeprefix(PAST): (_DTYPES[each.type], tuple(each.shape))
        for each in session.get_inputs()
        if each.name.startswith(PAST) and each.name != PAST_LENGTH
    }
    return CacheLayout(model, tensors)


def _usable(artifact: Artifact, ops: Choice) -> Choice:
    """The operators to use: `ops`, or "portable" if our kernels cannot run the artifact."""
    record = artifact.manifest.formats[DECODER]
    ours = {op.name: op.version for op in ALL}
    used = {**artifact.manifest.ops.versions, **record.details.get("ops", {})}
    if record.ops == "portable":
        reason = "it was exported with --ops portable"
    elif strange := sorted(used.items() - ours.items()):
        found = ", ".join(f"{name} version {version}" for name, version in strange)
        reason = f"it has {found}, which this release does not know"
    else:
        return ops
    if ops == "native":
        raise UsageError(f"the native operators cannot run {artifact.path}: {reason}")
    return "portable"
