"""Runs `model.onnx` in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.errors import InferenceError, RuntimeUnavailableError
from reformer_export.optional import require
from reformer_export.runtimes import onnx_probe
from reformer_export.runtimes.base import Array, Arrays, Buckets, Probe
from reformer_export.signature import INPUT_IDS


class OnnxRuntimeRunner:
    """An artifact's model in ONNX Runtime on the CPU, its operators run by their ONNX bodies."""

    name = "onnxruntime"

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        self._onnxruntime = require("onnxruntime", purpose="running model.onnx")
        self.signature = artifact.signature
        self._artifact = artifact
        self._threads = threads
        self._session = self._open(str(artifact.model_path))
        self._probing: dict[bool, tuple[Any, int]] = {}
        self.description = (
            f"onnxruntime {self._onnxruntime.__version__}, CPU, {threads or 'all'} threads, "
            "portable operators"
        )

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Outputs by name."""
        names = [spec.name for spec in self.signature.outputs]
        return dict(zip(names, _run(self._session, names, inputs), strict=True))

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """Outputs and buckets; with `forced` ones where given."""
        session, layers = self._probing_session(force=forced is not None)
        feeds = dict(inputs)
        for index, buckets in enumerate(forced or ()):
            if buckets is None:
                raise ValueError(f"no buckets to force on LSH layer {index}")
            feeds[f"{onnx_probe.FORCED}{index}"] = np.ascontiguousarray(buckets, np.int32)
        names = [spec.name for spec in self.signature.outputs]
        computed = [f"{onnx_probe.COMPUTED}{index}" for index in range(layers)]
        results = _run(session, names + computed, feeds)
        return Probe(dict(zip(names, results, strict=False)), results[len(names) :])

    def close(self) -> None:
        """Free the sessions."""
        del self._session
        self._probing.clear()

    def _probing_session(self, *, force: bool) -> tuple[Any, int]:
        if force not in self._probing:
            import onnx_ir as ir

            model, layers = onnx_probe.probing_model(self._artifact.model_path, force=force)
            self._probing[force] = (self._open(ir.to_proto(model).SerializeToString()), layers)
        return self._probing[force]

    def _open(self, model: str | bytes) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self._artifact.path)
        )
        try:
            return self._onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise RuntimeUnavailableError(
                f"onnxruntime {self._onnxruntime.__version__} cannot load the model: {error}"
            ) from error


def _run(session: Any, names: list[str], feeds: Arrays) -> list[Array]:
    try:
        results: list[Array] = session.run(names, dict(feeds))
    except Exception as error:  # as above
        shape = " x ".join(map(str, feeds[INPUT_IDS].shape))
        reason = " ".join(str(error).split())
        raise InferenceError(f"onnxruntime failed on {shape} tokens: {reason}") from error
    return results
