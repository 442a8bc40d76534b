"""TensorRT plugins, as far as that goes without a GPU and without libnvinfer.

- The pass that puts plugin nodes into a model.
- Our definitions, taken by TensorRT's own Python code (`plugin_bindings.py`).
- Whole models: what these definitions launch, executed by the PTX emulator, against onnxruntime.

Not shown here: that TensorRT's parser and builder take it, and that a GPU does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from reformer_export.artifact import Artifact
from reformer_export.errors import ArtifactError, ExportError, UsageError
from reformer_export.exporters.tensorrt_plugin_kernels import (
    PLUGINS_FILE,
    PluginKernel,
    compile_kernels,
    load_kernels,
    save_kernels,
    without_scratch,
)
from reformer_export.exporters.tensorrt_plugins import (
    PLUGINS,
    KernelRequest,
    plugin_named,
    use_plugins,
)

from ..ptx.machine import Program
from ..workshop import TINY, Workshop, feeds, worst_error
from .plugin_executor import Bindings, run

TARGET = 80


@dataclass
class Rewritten:
    """An artifact's model with plugin nodes, and the kernels they name."""

    artifact: Artifact
    model: ir.Model
    requests: dict[str, KernelRequest]
    kernels: dict[str, PluginKernel]
    folder: Path


_rewritten: dict[str, Rewritten] = {}


def rewritten(workshop: Workshop, folder: Path, dtype: str) -> Rewritten:
    if dtype not in _rewritten:
        artifact = workshop.artifact("text-generation", TINY, dtype=dtype)
        model = ir.load(artifact.model_path)
        requests = use_plugins(model, target=TARGET)
        kernels = compile_kernels(requests.values(), target=TARGET)
        save_kernels(kernels, folder / dtype)
        _rewritten[dtype] = Rewritten(artifact, model, requests, kernels, folder / dtype)
    return _rewritten[dtype]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _rewritten.clear()
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def fp32(workshop: Workshop, folder: Path) -> Rewritten:
    return rewritten(workshop, folder, "fp32")


@pytest.fixture(scope="module")
def bindings(fp32: Rewritten, folder: Path) -> Iterator[Bindings]:
    with Bindings(fp32.folder, folder / "stubs") as found:
        yield found


def test_operators_become_chains_of_plugins(fp32: Rewritten) -> None:
    found = [node for node in fp32.model.graph if node.domain == "reformer"]
    assert [node.op_type for node in found] == [
        "chunk_attention",
        "lsh_bucket",
        "sort_first_pass",
        "attend_rounds",
        "combine_rounds",
    ]
    assert not fp32.model.functions
    for node in found:
        plugin = plugin_named(node.op_type)
        assert [*node.attributes] == ["kernel"]
        assert node.attributes["kernel"].value in fp32.kernels
        assert len(node.inputs) == len(plugin.inputs)
        for operand, value in zip(plugin.outputs, node.outputs, strict=True):
            assert value.shape is not None
            assert len(value.shape) == len(operand.axes)
            assert value.dtype is not None


def test_names_of_plugins_are_nobody_elses() -> None:
    """TensorRT's parser looks at names before it looks at domains."""
    import onnx.defs

    names = [plugin.name for plugin in PLUGINS]
    assert len(set(names)) == len(names)
    standard = {schema.name.lower() for schema in onnx.defs.get_all_schemas()}
    assert not standard & {name.lower() for name in names}


def test_a_model_keeps_its_interface(fp32: Rewritten) -> None:
    original = ir.load(fp32.artifact.model_path)
    for before, after in (
        (original.graph.inputs, fp32.model.graph.inputs),
        (original.graph.outputs, fp32.model.graph.outputs),
    ):
        assert [(v.name, v.dtype, v.shape) for v in before] == [
            (v.name, v.dtype, v.shape) for v in after
        ]


def test_models_without_our_operators_or_sizes_are_refused(workshop: Workshop) -> None:
    portable = workshop.artifact("text-generation", TINY, ops="portable")
    with pytest.raises(ExportError, match="no operators of ours"):
        use_plugins(ir.load(portable.model_path), target=TARGET)
    model = ir.load(workshop.artifact("text-generation", TINY).model_path)
    for node in model.graph:
        if node.op_type == "ChunkAttention":
            for value in node.inputs:
                assert value is not None
                value.shape = None
    with pytest.raises(ExportError, match=r"does not tell head_dim, heads of .*ChunkAttention"):
        use_plugins(model, target=TARGET)


def test_equal_nodes_share_a_kernel(workshop: Workshop) -> None:
    layers = TINY | {"attn_layers": ["lsh", "lsh"]}
    model = ir.load(workshop.artifact("text-generation", layers).model_path)
    requests = use_plugins(model, target=TARGET)
    assert len([node for node in model.graph if node.domain == "reformer"]) == 8
    assert len(requests) == 4


def test_many_buckets_take_two_passes_of_sorting(workshop: Workshop) -> None:
    config = TINY | {"num_buckets": [32, 64]}
    model = ir.load(workshop.artifact("text-generation", config).model_path)
    use_plugins(model, target=TARGET)
    sorts = [node for node in model.graph if node.op_type.startswith("sort")]
    assert [node.op_type for node in sorts] == ["sort_first_pass", "sort_next_pass"]
    assert sorts[1].inputs[1] is sorts[0].outputs[0]
    assert sorts[1].inputs[0] is sorts[0].inputs[0]


# Kernels


def test_kernels_have_the_parameters_that_plugins_pass(fp32: Rewritten) -> None:
    for kernel in fp32.kernels.values():
        plugin = plugin_named(kernel.plugin)
        declared = Program(kernel.ptx).kernel.parameters
        pointers = [parameter.pointer for parameter in declared]
        assert pointers == [True] * len(plugin.inputs) + [False] + [True] * len(plugin.outputs)
        assert declared[len(plugin.inputs)].type.bits == 32


def test_scratch_memory_that_is_used_is_an_error() -> None:
    ptx = (
        ".visible .entry k(\n\t.param .u64 k_param_0,\n\t.param .u64 k_param_1\n)\n{\n{body}ret;\n}"
    )
    assert "k_param_1" not in without_scratch(ptx.replace("{body}", ""), 1)
    used = ptx.replace("{body}", "ld.param.b64 %rd1, [k_param_1];\n")
    with pytest.raises(ExportError, match="uses k_param_1, which is scratch memory"):
        without_scratch(used, 1)
    with pytest.raises(ExportError, match="3 parameters was wanted; the PTX has 2"):
        without_scratch(used, 3)


def test_kernels_are_kept_in_a_folder(fp32: Rewritten, tmp_path: Path) -> None:
    assert load_kernels(fp32.folder) == fp32.kernels
    with pytest.raises(UsageError):
        save_kernels(fp32.kernels, fp32.folder)
    copy = tmp_path / "kernels"
    save_kernels(fp32.kernels, copy)
    text = (copy / PLUGINS_FILE).read_text()
    (copy / PLUGINS_FILE).write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ArtifactError, match="has schema 2; known is 1"):
        load_kernels(copy)
    (copy / PLUGINS_FILE).write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match="is damaged"):
        load_kernels(copy)
    (copy / PLUGINS_FILE).write_text(re.sub(r'"name": "\w+"', '"name": "../x"', text))
    with pytest.raises(ArtifactError, match="no name of ours"):
        load_kernels(copy)
    (copy / PLUGINS_FILE).write_text(text)
    first = next(copy.glob("*.ptx"))
    first.write_text(first.read_text() + "// changed\n")
    with pytest.raises(ArtifactError, match="is not what"):
        load_kernels(copy)
    first.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        load_kernels(copy)


# Definitions, as TensorRT's Python code takes them


def shapes(request: KernelRequest, batch: int, length: int) -> list[tuple[str, list[int]]]:
    """Types and sizes of a plugin's inputs."""
    sizes = {**request.sizes, "batch": batch, "length": length}
    return [
        (
            request.dtype if operand.dtype == "float" else operand.dtype,
            [sizes[axis] for axis in operand.axes],
        )
        for operand in request.plugin.inputs
    ]


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 17), (2, 4096), (1, 65536)])
def test_bindings_evaluate_the_grids_of_the_torch_launches(
    fp32: Rewritten, bindings: Bindings, batch: int, length: int
) -> None:
    for name, request in fp32.requests.items():
        answer = bindings.ask(request.plugin.name, name, shapes(request, batch, length))
        launch = request.launch
        assert answer["grid"] == [launch.grid.programs(batch, length), 1, 1]
        assert answer["block"] == [32 * launch.num_warps, 1, 1]
        assert answer["scalars"] == [length]
        assert answer["shared_bytes"] == fp32.kernels[name].shared_bytes
        assert answer["entry"] in answer["ptx"]
        sizes = {**request.sizes, "batch": batch, "length": length}
        assert [shape for _, shape in answer["outputs"]] == [
            [sizes[axis] for axis in operand.axes] for operand in request.plugin.outputs
        ]
        expected = {"float": "FLOAT", "float32": "FLOAT", "int32": "INT32"}
        assert [dtype for dtype, _ in answer["outputs"]] == [
            expected[operand.dtype] for operand in request.plugin.outputs
        ]


def test_bindings_refuse_kernels_that_are_for_something_else(
    fp32: Rewritten, bindings: Bindings
) -> None:
    request = next(r for r in fp32.requests.values() if r.plugin.name == "attend_rounds")
    good = shapes(request, 1, 64)

    def told(
        inputs: Any = good, *, plugin: str = "attend_rounds", kernel: str = request.name
    ) -> str:
        return str(bindings.ask(plugin, kernel, inputs)["error"])

    assert "not among those that were loaded" in told(kernel="attend_rounds_0")
    other = next(n for n, r in fp32.requests.items() if r.plugin.name == "combine_rounds")
    assert "is for combine_rounds" in told(kernel=other)
    half = [("float16" if dtype == "float32" else dtype, shape) for dtype, shape in good]
    assert "takes query_key as" in told(half)
    heads = [
        (dtype, [*shape[:-1], shape[-1] * 2] if len(shape) == 4 and dtype != "int32" else shape)
        for dtype, shape in good
    ]
    assert "is compiled for head_dim" in told(heads)


# Whole models


@pytest.mark.parametrize("length", [5, 64, 100])
def test_emulated_plugins_of_a_model_equal_onnxruntime(
    fp32: Rewritten, bindings: Bindings, length: int
) -> None:
    """A short sequence, several chunks, a length that is padded; two sequences, one padded."""
    check_model(fp32, bindings, length, tolerance=2e-5)


def test_emulated_plugins_of_a_half_precision_model_equal_onnxruntime(
    workshop: Workshop, folder: Path
) -> None:
    half = rewritten(workshop, folder, "fp16")
    with Bindings(half.folder, folder / "stubs") as bindings:
        check_model(half, bindings, 64, tolerance=2e-2)


def check_model(found: Rewritten, bindings: Bindings, length: int, tolerance: float) -> None:
    inputs = feeds(length, 2, vocab_size=258)
    outputs = run(ir.to_proto(found.model), inputs, bindings)
    session = onnxruntime.InferenceSession(
        str(found.artifact.model_path), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    wanted = dict(zip(names, session.run(None, inputs), strict=True))
    # Padded positions hold numbers of no use.
    valid = inputs["attention_mask"].astype(bool)
    mine = {name: output[valid] for name, output in zip(names, outputs, strict=True)}
    assert all(np.isfinite(output).all() for output in mine.values())
    assert worst_error(mine, {name: output[valid] for name, output in wanted.items()}) < tolerance


def test_a_wrong_kernel_shows_in_the_outputs(fp32: Rewritten, bindings: Bindings) -> None:
    """The comparison above can fail: with a mask of its own in one layer, it does."""
    model = ir.load(fp32.artifact.model_path)
    requests = use_plugins(model, target=TARGET)
    assert requests.keys() == fp32.requests.keys()
    node = next(node for node in model.graph if node.op_type == "chunk_attention")
    node.replace_input_with(2, node.inputs[1])  # keys in the place of values
    with pytest.raises(AssertionError):
        check_model(replace(fp32, model=model), bindings, 64, tolerance=2e-5)
