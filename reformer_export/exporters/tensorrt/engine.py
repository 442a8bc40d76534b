"""Builds a TensorRT engine from an artifact, after all options are checked."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import (
    ENGINE,
    Build,
    EngineRecord,
    EngineSource,
    Layer,
    Operator,
    Profile,
    write_record,
)
from reformer_export.artifact.manifest import (
    MANIFEST,
    MODEL,
    ONNX,
    FileRecord,
    FormatRecord,
    record_files,
    write_manifest,
)
from reformer_export.artifact.signature import Signature
from reformer_export.errors import DeviceUnavailableError, UsageError
from reformer_export.exporters.checkpoint_files import CHECKPOINT_FILES
from reformer_export.exporters.tensorrt.builder import BuildOptions, EngineBuilder, default_targets
from reformer_export.exporters.tensorrt.profiles import check_volumes, make_profiles
from reformer_export.host.gpu import Gpu, find_gpus, require_gpu
from reformer_export.host.memory import own_peak_rss
from reformer_export.host.optional import installed_versions
from reformer_export.host.tensorrt_library import (
    Library,
    Log,
    check_gpu,
    known_targets,
    load_library,
)
from reformer_export.source import DTYPES
from reformer_ops.tensorrt_forms import FORMS

OPS_MODES = ("portable", "plugin")

_TOOLS = ("reformer-export", "onnx", "onnx-ir")
_TURING = "sm75"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TensorRTOptions:
    """Options of the build, named as on the command line."""

    flavor: str = "auto"
    dtype: str | None = None
    min_shapes: Sequence[str] = ()
    opt_shapes: Sequence[str] = ()
    max_shapes: Sequence[str] = ()
    targets: Sequence[str] = ()
    workspace: int | None = None
    ops: str = "portable"
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


@dataclass(frozen=True)
class EnginePlan:
    """A checked plan: the library is installed and supports all options."""

    artifact: Artifact
    library: Library
    dtype: str
    profiles: tuple[Profile, ...]
    ops: str
    build: BuildOptions

    @property
    def targets(self) -> tuple[str, ...]:
        """The GPUs that the engine runs on; empty if it runs on the GPU that builds it."""
        return self.build.targets or default_targets(self.library)

    @property
    def fp32_products(self) -> bool:
        """True if all targets can multiply fp32 matrices. With TensorRT-RTX, sm75 cannot."""
        return _TURING not in self.targets

    @property
    def signature(self) -> Signature:
        """The artifact's signature, with the lengths of the profiles."""
        return dataclasses.replace(
            self.artifact.signature,
            min_length=min(profile.smallest.length for profile in self.profiles),
            max_length=max(profile.largest.length for profile in self.profiles),
        )


def plan_engine(artifact: Artifact, options: TensorRTOptions) -> EnginePlan:
    """Check all options before the work begins.

    Raises:
        UsageError: a type, target, shape or choice of operators is not possible.
        MissingDependencyError: the library is not installed.
    """
    if ONNX not in artifact.formats:
        raise UsageError(
            f"{artifact.path} holds no {ONNX}, but {' and '.join(artifact.formats)}: engines are "
            "built from model.onnx, add it with reformer-export to-onnx"
        )
    dtype = _dtype(artifact, options.dtype)
    profiles = make_profiles(
        artifact.signature, options.min_shapes, options.opt_shapes, options.max_shapes
    )
    if options.workspace is not None and options.workspace < 1:
        raise UsageError(f"--workspace {options.workspace}: give at least 1 MB")
    if options.ops not in OPS_MODES:
        raise UsageError(f"unknown ops {options.ops!r}: choose one of {', '.join(OPS_MODES)}")
    library = load_library(options.flavor, purpose="building an engine")
    rtx = library.flavor.name == "rtx"
    if rtx and options.ops == "plugin":
        raise UsageError(
            "TensorRT-RTX takes no plugins: --ops portable, or --flavor standard on a GPU machine"
        )
    for option, value in {
        "--timing-cache": options.timing_cache,
        "--version-compatible": options.version_compatible,
        "--hardware-compatible": options.hardware_compatible,
    }.items():
        if rtx and value:
            raise UsageError(f"{option} is for --flavor standard; TensorRT-RTX has no such option")
    return EnginePlan(
        artifact=artifact,
        library=library,
        dtype=dtype,
        profiles=profiles,
        ops=options.ops,
        build=BuildOptions(
            targets=_targets(library, options.targets, dtype),
            workspace=options.workspace,
            timing_cache=options.timing_cache,
            version_compatible=options.version_compatible,
            hardware_compatible=options.hardware_compatible,
        ),
    )


def write_graph(plan: EnginePlan, folder: Path) -> Artifact:
    """Write the graph that TensorRT will parse into a new folder, as a separate artifact.

    It can be run and verified like any other artifact.

    Raises:
        UsageError: a profile is so large that TensorRT cannot address its tensors.
        ExportError: a weight is beyond the range of the engine's type.
    """
    import onnx_ir as ir

    from reformer_export.exporters.onnx.export import save_model
    from reformer_export.exporters.tensorrt.graph import lower

    source = plan.artifact
    model = ir.load(source.format_path(ONNX))
    check_volumes(model, plan.profiles)
    lower(model, plan.dtype, fp32_products=plan.fp32_products)
    folder.mkdir()
    manifest = source.manifest
    record = FormatRecord(
        files=save_model(model, folder),
        ops="portable",
        tools=manifest.formats[ONNX].tools,
        details=manifest.formats[ONNX].details,
    )
    write_manifest(
        folder,
        dataclasses.replace(
            manifest,
            dtype=plan.dtype,
            formats={ONNX: record},
            files=record_files(folder),
        ),
    )
    return Artifact.open(folder, check_hashes=False)


def write_engine(
    plan: EnginePlan,
    graph: Artifact,
    folder: Path,
    *,
    evidence: str,
    parity: Mapping[str, Any] | None,
    progress: Progress,
    log: Log | None = None,
) -> None:
    """Build the engine from the graph of `write_graph`; write it and its record to an empty folder.

    Raises:
        DeviceUnavailableError: the library needs a GPU to build, and there is none.
        ExportError: the library rejects the graph, or cannot build it.
    """
    builder = EngineBuilder(plan.library, log)
    progress("parsing the graph")
    if plan.ops == "portable":
        parsed = graph.format_path(ONNX)
    else:
        parsed = _write_plugin_graph(plan, graph.path)
    layers = builder.parse(parsed, graph.signature)
    data, seconds = builder.build(plan.profiles, plan.build, progress)
    progress("writing the engine")
    (folder / ENGINE).write_bytes(memoryview(data))
    for name in CHECKPOINT_FILES:
        if path := plan.artifact.file(name):
            shutil.copyfile(path, folder / name)
    manifest = FileRecord.of(plan.artifact.path / MANIFEST)
    workspace = plan.build.workspace
    record = EngineRecord(
        flavor=plan.library.flavor.name,
        version=plan.library.version,
        dtype=plan.dtype,
        targets=plan.targets,
        ops=plan.ops,
        profiles=plan.profiles,
        signature=plan.signature,
        layers=layers,
        operators=_operators(plan, layers),
        weights_bytes=_weights_bytes(graph),
        build=Build(seconds, own_peak_rss(), None if workspace is None else workspace << 20),
        source=EngineSource(
            artifact=str(plan.artifact.path),
            manifest_sha256=manifest.sha256,
            model_sha256=plan.artifact.manifest.files[MODEL].sha256,
            graph_sha256=graph.manifest.files[MODEL].sha256,
        ),
        evidence=evidence,
        parity=parity,
        files=record_files(folder),
        tools={
            **installed_versions(*_TOOLS),
            plan.library.flavor.package: plan.library.version,
        },
    )
    write_record(folder, record)


def _write_plugin_graph(plan: EnginePlan, folder: Path) -> Path:
    """Write the graph with plugins in place of our operators, and register the plugins.

    Kernels are compiled for the GPU that the engine is built on.
    """
    import onnx_ir as ir

    from reformer_export.exporters.cuda.kernel_folder import build_kernels, layers_of
    from reformer_export.exporters.tensorrt.graph import set_types
    from reformer_export.exporters.tensorrt.plugin_defs import define_plugins
    from reformer_export.exporters.tensorrt.plugin_kernels import load_kernels
    from reformer_export.exporters.tensorrt.plugins import use_plugins

    target = require_gpu("building with plugins").capability
    layers, _ = layers_of(plan.artifact.path)
    built = build_kernels(folder / "kernels", **layers, dtypes=[plan.dtype], targets=[target])
    kernels = load_kernels(built.path, target=target)
    model = ir.load(plan.artifact.format_path(ONNX))
    set_types(model, plan.dtype)
    use_plugins(model, kernels)
    define_plugins(kernels)
    path = folder / "plugins.onnx"
    ir.save(model, path, external_data=f"{path.name}_data")
    return path


def _dtype(artifact: Artifact, wanted: str | None) -> str:
    """The engine's type: `wanted`, or else the artifact's. UsageError if it is not possible."""
    own = artifact.manifest.dtype
    dtype = wanted or own
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    if dtype != own and own != "fp32":
        raise UsageError(
            f"--dtype {dtype}: the weights of this artifact are rounded to {own} already; export "
            "it in fp32 first"
        )
    portable = artifact.manifest.formats[ONNX].ops == "portable"
    weights = artifact.manifest.weights
    if portable and weights is not None and weights.rounds_inputs:
        raise UsageError(
            f"{artifact.path} has weights of {weights.type} and was exported with --ops portable, "
            "so its operators are written out for the CPU: export it with --ops auto"
        )
    if portable and dtype != "fp32":
        raise UsageError(
            f"--dtype {dtype}: {artifact.path} was exported with --ops portable, so its operators "
            "are written out in their types: export it with --ops auto"
        )
    return dtype


def _targets(library: Library, wanted: Sequence[str], dtype: str) -> tuple[str, ...]:
    targets = tuple(dict.fromkeys(target.lower() for target in wanted))
    known = known_targets(library)
    if targets and not known:
        raise UsageError(
            f"--target {','.join(targets)}: {library.flavor.title} builds for the GPU it runs on; "
            "leave --target out, or choose --flavor rtx"
        )
    for target in targets:
        if target not in known:
            raise UsageError(f"--target {target}: {library} knows {', '.join(known)}")
    gpus, _ = find_gpus()
    if gpus and not targets and library.flavor.name == "rtx":
        _check_some_gpu(library, gpus)
    if _TURING in targets and dtype != "fp16":
        lacks = "fp32 products of matrices" if dtype == "fp32" else "bf16"
        raise UsageError(
            f"--target {_TURING} with {dtype}: TensorRT-RTX has no {lacks} there; "
            "choose --dtype fp16 or leave that target out"
        )
    return targets


def _check_some_gpu(library: Library, gpus: Sequence[Gpu]) -> None:
    """UsageError if no GPU of this machine can run an engine for the default targets."""
    refusals = []
    for gpu in gpus:
        try:
            check_gpu(library, gpu)
            return
        except DeviceUnavailableError as error:
            refusals.append(str(error))
    raise UsageError(f"{refusals[0]}; to build for another machine, name its GPU with --target")


def _operators(plan: EnginePlan, layers: Sequence[Layer]) -> tuple[Operator, ...]:
    """How each of our nodes was built. The names of a body's nodes begin with the node's name."""
    import onnx_ir as ir

    from reformer_export.exporters.onnx.passes import operator_nodes

    nodes = operator_nodes(ir.load(plan.artifact.format_path(ONNX)))
    owners = Counter(
        node.name
        for layer in layers
        for node in nodes
        if layer.node is not None and layer.node.startswith(f"{node.name}/")
    )
    return tuple(
        Operator(str(node.name), node.op_type, _form(plan, node.op_type), owners[node.name])
        for node in nodes
    )


def _form(plan: EnginePlan, op: str) -> str:
    if plan.ops == "plugin":
        return "plugin"
    form = FORMS.get(op)
    return "portable" if plan.fp32_products or form is None else form.without_fp32_products


def _weights_bytes(graph: Artifact) -> int:
    import onnx_ir as ir

    initializers = ir.load(graph.format_path(ONNX)).graph.initializers.values()
    return sum(value.const_value.nbytes for value in initializers if value.const_value is not None)
