"""Runs `model.onnx` in OpenVINO on the CPU, with standard operators."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import ONNX
from reformer_export.errors import InferenceError, RuntimeUnavailableError, UsageError
from reformer_export.host.optional import require
from reformer_export.runtimes import onnx_probe
from reformer_export.runtimes.base import Array, Arrays, Buckets, Probe, RunnerOptions
from reformer_export.runtimes.portable_only import check_portable

if TYPE_CHECKING:
    import onnx_ir as ir


class OpenVINORunner:
    """An artifact's model in OpenVINO. It computes in fp32, also if the processor has faster
    types."""

    name = "openvino"

    def __init__(self, artifact: Artifact, options: RunnerOptions | None = None) -> None:
        options = options or RunnerOptions()
        check_portable(self.name, artifact, options.ops)
        if artifact.manifest.dtype == "bf16":
            raise UsageError(
                f"openvino does not run {artifact.path}: on a CPU it would compute a bf16 model "
                "in fp32, with other numbers; choose another runtime"
            )
        import onnx_ir as ir

        openvino = require("openvino", purpose="running model.onnx in OpenVINO")
        self.signature = artifact.signature
        self._path = artifact.format_path(ONNX)
        self._core = openvino.Core()
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if options.threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = options.threads
        self._version = openvino.__version__.partition("-")[0]
        threads = f"{options.threads or 'all'} threads"
        self.description = f"openvino {self._version}, CPU, {threads}, portable operators"
        self._probing: dict[bool, tuple[Any, int]] = {}
        self._model = self._compiled(ir.load(self._path))

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        names = [spec.name for spec in self.signature.outputs]
        found = self._run(self._model, names, self.signature.check(inputs))
        return dict(zip(names, found, strict=True))

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """The outputs and the computed buckets; the layers use `forced` buckets if given."""
        model, layers = self._probing_model(force=forced is not None)
        names = [spec.name for spec in self.signature.outputs]
        computed = onnx_probe.computed_names(layers)
        found = self._run(model, names + computed, onnx_probe.feeds(inputs, forced))
        return Probe(dict(zip(names, found, strict=False)), found[len(names) :])

    def close(self) -> None:
        """Free the models."""
        del self._model
        self._probing.clear()

    def _run(self, model: Any, names: list[str], feeds: Arrays) -> list[Array]:
        try:
            found = model.infer_new_request(dict(feeds))  # one request cannot serve several threads
        except RuntimeError as error:
            extent, reason = self.signature.described_extent(feeds), " ".join(str(error).split())
            raise InferenceError(f"openvino failed on {extent}: {reason}") from error
        return [found[model.output(name)] for name in names]

    def _probing_model(self, *, force: bool) -> tuple[Any, int]:
        if force not in self._probing:
            model, layers = onnx_probe.probing_model(self._path, force=force)
            self._probing[force] = (self._compiled(model), layers)
        return self._probing[force]

    def _compiled(self, model: ir.Model) -> Any:
        """The compiled model. OpenVINO does not know functions, so they are inlined."""
        import onnx_ir as ir
        import onnx_ir.passes.common as common_passes

        common_passes.InlinePass()(model)
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                ir.save(model, path, external_data="weights")  # one file has at most 2 GiB
                return self._core.compile_model(self._core.read_model(path), "CPU", self._settings)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise RuntimeUnavailableError(
                f"openvino {self._version} cannot load the model: {reason}"
            ) from error
