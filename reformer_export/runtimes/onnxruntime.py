"""Runs `model.onnx` in ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import ONNX
from reformer_export.errors import InferenceError, RuntimeUnavailableError, UsageError
from reformer_export.host.device import CUDA
from reformer_export.host.gpu import require_gpu
from reformer_export.host.optional import require
from reformer_export.runtimes import onnx_probe, onnxruntime_cuda
from reformer_export.runtimes.base import Array, Arrays, Buckets, Probe, RunnerOptions
from reformer_ops import NativeStatus
from reformer_ops.core.native import Choice, register_with_onnxruntime, requested, tuned_options
from reformer_ops.registry import ALL

if TYPE_CHECKING:
    import onnx_ir as ir


class OnnxRuntimeRunner:
    """An artifact's model in ONNX Runtime, on the CPU or a GPU.

    On the CPU our kernels run the operators if they are installed, else the ONNX bodies in the
    artifact do; `ops` ("native", "portable") requires one of the two. On a GPU the bodies run only
    on request.
    """

    name = "onnxruntime"

    def __init__(self, artifact: Artifact, options: RunnerOptions | None = None) -> None:
        self._onnxruntime = require("onnxruntime", purpose="running model.onnx")
        self._options = options = options or RunnerOptions()
        self._on_gpu = options.device.kind == CUDA
        self.signature = artifact.signature
        self._artifact = artifact
        ops = requested() if options.ops == "auto" else options.ops
        if self._on_gpu:
            ops = "native" if ops == "auto" else ops
            onnxruntime_cuda.prepare_onnxruntime(self._onnxruntime, options.device)
        self._ops = _usable(artifact, ops, on_gpu=self._on_gpu)
        self._emulated = artifact.manifest.dtype == "bf16" and not self._on_gpu
        # Function bodies compute a part on the CPU, which a CUDA graph cannot capture.
        graphs = options.cuda_graph == "auto" and self._ops != "portable"
        self._session, status = self._open(self._model(), graphs=graphs)
        self._probing: dict[bool, tuple[Any, int]] = {}
        threads = f"{options.threads or 'all'} threads"
        self.description = ", ".join(
            [
                f"onnxruntime {self._onnxruntime.__version__}",
                self._place() if self._on_gpu else f"CPU, {threads}",
                "kernels of model.cuda" if self._on_gpu and status.available else str(status),
                *(["bf16 emulated in fp32"] if self._emulated else []),
            ]
        )

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        names = [spec.name for spec in self.signature.outputs]
        values = self._run(self._session, names, self.signature.check(inputs))
        return dict(zip(names, values, strict=True))

    def prepare(self, inputs: Arrays) -> onnxruntime_cuda.Prepared:
        """Copy inputs to the GPU and allocate the outputs there, for runs without copies.

        Raises:
            UsageError: the runner is on the CPU.
        """
        if not isinstance(self._session, onnxruntime_cuda.DeviceSession):
            raise UsageError("prepare() keeps inputs on a GPU, and this runner is on the CPU")
        return self._session.prepare(inputs)

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        """The outputs and the computed buckets; the layers use `forced` buckets if given."""
        session, layers = self._probing_session(force=forced is not None)
        names = [spec.name for spec in self.signature.outputs]
        computed = onnx_probe.computed_names(layers)
        results = self._run(session, names + computed, onnx_probe.feeds(inputs, forced))
        return Probe(dict(zip(names, results, strict=False)), results[len(names) :])

    def close(self) -> None:
        """Free the sessions."""
        del self._session
        self._probing.clear()

    def _run(self, session: Any, names: list[str], feeds: Arrays) -> list[Array]:
        try:
            results: list[Array] = session.run(names, dict(feeds))
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            extent, reason = self.signature.described_extent(feeds), " ".join(str(error).split())
            raise InferenceError(f"onnxruntime failed on {extent}: {reason}") from error
        return results

    def _model(self) -> str | bytes:
        """The artifact's file, or a model converted to types for which onnxruntime has kernels."""
        if not self._emulated:
            return str(self._artifact.format_path(ONNX))
        import onnx_ir as ir

        return _serialised(ir.load(self._artifact.format_path(ONNX)), emulated=True)

    def _probing_session(self, *, force: bool) -> tuple[Any, int]:
        if force not in self._probing:
            model, layers = onnx_probe.probing_model(self._artifact.format_path(ONNX), force=force)
            # Each input runs only once, so a CUDA graph would not help.
            session, _ = self._open(_serialised(model, emulated=self._emulated), graphs=False)
            self._probing[force] = (session, layers)
        return self._probing[force]

    def _place(self) -> str:
        captured = isinstance(self._session, onnxruntime_cuda.DeviceSession) and (
            self._session.graphs
        )
        graphs = "with" if captured else "without"
        gpu = require_gpu("running", index=self._options.device.index)
        return f"{self._options.device}, {gpu}, {graphs} CUDA graphs"

    def _open(self, model: str | bytes, *, graphs: bool) -> tuple[Any, NativeStatus]:
        """A session (on a GPU a `DeviceSession`), and the status of our kernels in it."""
        device = self._options.device
        if not self._on_gpu:
            return self._session_of(model, ["CPUExecutionProvider"])
        providers = [
            (onnxruntime_cuda.PROVIDER, onnxruntime_cuda.provider_options(device, graphs=graphs)),
            "CPUExecutionProvider",
        ]
        try:
            session, status = self._session_of(model, providers)
        except RuntimeUnavailableError as error:
            # Older exports copy from the CPU inside the graph; these cannot be captured.
            if not graphs or "graph capture" not in str(error):
                raise
            return self._open(model, graphs=False)
        onnxruntime_cuda.check_placed(session, device)
        wrapped = onnxruntime_cuda.DeviceSession(
            session, self._onnxruntime, self.signature, device, graphs=graphs
        )
        return wrapped, status

    def _session_of(self, model: str | bytes, providers: list[Any]) -> tuple[Any, NativeStatus]:
        on_kernels = self._on_gpu and self._ops != "portable"
        options = tuned_options(
            threads=self._options.threads,
            kernels=onnxruntime_cuda.kernels_of(self._artifact) if on_kernels else None,
        )
        # ONNX Runtime also rounds the inputs of products that follow a DequantizeLinear, unless its
        # fusions are off. Graphs for TensorRT have such products.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if not self._options.spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # On a GPU, ONNX Runtime also prints errors that it raises.
        options.log_severity_level = 4 if self._on_gpu else 3
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self._artifact.path)
        )
        status = register_with_onnxruntime(options, self._ops)
        try:
            with onnxruntime_cuda.opening_session(self._onnxruntime):
                session = self._onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:  # as above
            raise RuntimeUnavailableError(
                f"onnxruntime {self._onnxruntime.__version__} cannot load the model: {error}"
            ) from error
        return session, status


def _serialised(model: ir.Model, *, emulated: bool) -> bytes:
    import onnx_ir as ir

    if emulated:
        import onnx_ir.passes.common as common_passes

        from reformer_export.runtimes.onnx_bf16 import emulate_bf16

        common_passes.InlinePass()(model)
        emulate_bf16(model)
    serialised: bytes = ir.to_proto(model).SerializeToString()
    return serialised


def _usable(artifact: Artifact, ops: Choice, *, on_gpu: bool) -> Choice:
    """The operators to use: `ops`, or "portable" if our kernels cannot run the artifact."""
    ours = {op.name: op.version for op in ALL}
    if artifact.manifest.dtype == "bf16" and not on_gpu:
        reason = "no CPU kernel takes bf16"
    elif artifact.manifest.formats[ONNX].ops == "portable":
        reason = "it was exported with --ops portable"
    elif strange := sorted(artifact.manifest.ops.versions.items() - ours.items()):
        found = ", ".join(f"{name} version {version}" for name, version in strange)
        reason = f"it has {found}, which this release does not know"
    else:
        return ops
    if ops == "native":
        raise UsageError(f"the native operators cannot run {artifact.path}: {reason}")
    return "portable"
