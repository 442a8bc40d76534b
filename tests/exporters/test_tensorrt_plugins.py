"""Tests of TensorRT plugins that need neither a GPU nor libnvinfer.

- The pass that puts plugin nodes into a model.
- Our definitions, evaluated by TensorRT's own Python code (`plugin_bindings.py`).
- Whole models: the PTX emulator executes the launches of these definitions, and the outputs must
  equal those of onnxruntime.

Not tested here: that TensorRT's parser and builder accept the models, and that a GPU runs them.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import MANIFEST
from reformer_export.errors import ArtifactError, ExportError, UsageError
from reformer_export.exporters.cuda.kernel_folder import build_kernels, layers_of
from reformer_export.exporters.tensorrt.plugin_kernels import (
    PluginKernel,
    load_kernels,
    without_scratch,
)
from reformer_export.exporters.tensorrt.plugins import use_plugins
from reformer_ops.tensorrt_forms import PLUGINS
from reformer_ops.triton.launch import Launch
from reformer_ops.triton_kernels import local_layer, lsh_layer

from ..tools.model_fixtures import TINY, Fixtures, feeds, worst_error
from ..tools.ptx.machine import Program
from .plugin_executor import Bindings, run

TARGET = 80


@dataclass
class Rewritten:
    """An artifact's model with plugin nodes, and the kernels that the nodes name."""

    artifact: Artifact
    model: ir.Model
    kernels: dict[str, PluginKernel]
    folder: Path
    layers: dict[str, Any]


def rewrite(artifact: Artifact, folder: Path) -> Rewritten:
    layers, dtype = layers_of(artifact.path)
    build_kernels(folder, **layers, dtypes=[dtype], targets=[TARGET])
    kernels = load_kernels(folder, target=TARGET)
    model = ir.load(artifact.format_path("onnx"))
    use_plugins(model, kernels)
    return Rewritten(artifact, model, kernels, folder, layers)


def need_bindings() -> None:
    if importlib.util.find_spec("tensorrt_bindings") is None:
        pytest.skip("tensorrt_cu13_bindings is not installed, which is for Linux only")
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to make the libraries that the bindings load with")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plugins")


@pytest.fixture(scope="module")
def fp32(fixtures: Fixtures, folder: Path) -> Rewritten:
    return rewrite(fixtures.artifact("text-generation", TINY), folder / "fp32")


@pytest.fixture(scope="module")
def bindings(fp32: Rewritten, folder: Path) -> Iterator[Bindings]:
    need_bindings()
    with Bindings(fp32.folder, TARGET, folder / "stubs") as found:
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
        assert [*node.attributes] == ["kernel"]
        numbers = {kernel.number: kernel for kernel in fp32.kernels.values()}
        plugin = numbers[node.attributes["kernel"].as_int()].plugin
        assert plugin.name == node.op_type
        assert len(node.inputs) == len(plugin.inputs)
        for operand, value in zip(plugin.outputs, node.outputs, strict=True):
            assert value.shape is not None
            assert len(value.shape) == len(operand.axes)
            assert value.dtype is not None


def test_names_of_plugins_are_nobody_elses() -> None:
    """TensorRT's parser looks at names before it looks at domains."""
    import onnx.defs

    names = [plugin.name for plugin in PLUGINS.values()]
    assert len(set(names)) == len(names)
    standard = {schema.name.lower() for schema in onnx.defs.get_all_schemas()}
    assert not standard & {name.lower() for name in names}


def test_a_model_keeps_its_interface(fp32: Rewritten) -> None:
    original = ir.load(fp32.artifact.format_path("onnx"))
    for before, after in (
        (original.graph.inputs, fp32.model.graph.inputs),
        (original.graph.outputs, fp32.model.graph.outputs),
    ):
        assert [(v.name, v.dtype, v.shape) for v in before] == [
            (v.name, v.dtype, v.shape) for v in after
        ]


def test_models_without_our_operators_or_sizes_are_refused(
    fixtures: Fixtures, fp32: Rewritten
) -> None:
    with pytest.raises(ExportError, match="no operators of ours"):
        use_plugins(fp32_without_nodes(fp32), fp32.kernels)
    model = ir.load(fp32.artifact.format_path("onnx"))
    for node in model.graph:
        if node.op_type == "ChunkAttention":
            for value in node.inputs:
                assert value is not None
                value.shape = None
    with pytest.raises(ExportError, match=r"does not tell head_dim, heads of .*ChunkAttention"):
        use_plugins(model, fp32.kernels)


def fp32_without_nodes(fp32: Rewritten) -> ir.Model:
    model = ir.load(fp32.artifact.format_path("onnx"))
    for node in model.graph:
        node.domain = "" if node.domain == "reformer" else node.domain
    return model


@pytest.mark.parametrize(
    ("op", "attribute", "value", "message"),
    [
        ("ChunkAttention", "causal", 0, "compiled for CAUSAL = True, but .* has False"),
        ("SortedChunkAttention", "chunk_length", 5, "compiled for CHUNK_LENGTH = "),
        ("SortedChunkAttention", "num_buckets", 2**20, "has 1048576 buckets: build its kernels"),
        ("LshBucket", "factors", [2, 2, 2], "compiled for HALVES = "),
    ],
)
def test_kernels_of_another_model_are_refused(
    fp32: Rewritten, op: str, attribute: str, value: int | list[int], message: str
) -> None:
    model = ir.load(fp32.artifact.format_path("onnx"))
    before = [node.op_type for node in model.graph]
    for node in model.graph:
        if node.op_type == op:
            single = isinstance(value, int)
            node.attributes.add(
                ir.AttrInt64(attribute, value) if single else ir.AttrInt64s(attribute, value)
            )
    with pytest.raises(ExportError, match=message):
        use_plugins(model, fp32.kernels)
    assert [node.op_type for node in model.graph] == before


def test_a_kernel_that_is_missing_is_named(fp32: Rewritten) -> None:
    kernels = {n: k for n, k in fp32.kernels.items() if k.step != "attend_rounds"}
    with pytest.raises(ExportError, match="no kernel attend_rounds of type float32"):
        use_plugins(ir.load(fp32.artifact.format_path("onnx")), kernels)


# Kernels


def test_kernels_have_the_parameters_that_plugins_pass(fp32: Rewritten) -> None:
    for kernel in fp32.kernels.values():
        plugin = kernel.plugin
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


def test_folders_of_kernels_that_are_damaged(fp32: Rewritten, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernels for sm90, but for sm80: build them with"):
        load_kernels(fp32.folder, target=90)
    with pytest.raises(ArtifactError, match="No such file"):
        load_kernels(tmp_path, target=TARGET)
    with pytest.raises(ArtifactError, match="is damaged"):
        load_kernels(fp32.artifact.path, target=TARGET)  # another manifest, without a kind
    copy = tmp_path / "kernels"
    shutil.copytree(fp32.folder, copy)
    text = (copy / MANIFEST).read_text()
    content = json.loads(text)
    for damaged, message in (
        (text[: len(text) // 2], "is damaged"),
        (json.dumps(content | {"schema_version": 99}), "has schema 99; known is 1"),
        (
            json.dumps(content | {"kind": "reformer-cake"}),
            "is a reformer-cake, and no folder of kernels",
        ),
        (text.replace('"ptx": "', '"ptx": "../'), "no name that build-kernels gives"),
    ):
        (copy / MANIFEST).write_text(damaged)
        with pytest.raises(ArtifactError, match=message):
            load_kernels(copy, target=TARGET)
    (copy / MANIFEST).write_text(text)
    first = next(copy.glob("*.ptx"))
    first.write_text(first.read_text() + "// changed")
    with pytest.raises(ArtifactError, match="is not what the manifest says"):
        load_kernels(copy, target=TARGET)


# Definitions, as TensorRT's Python code evaluates them


def shapes(kernel: PluginKernel, batch: int, length: int) -> list[tuple[str, list[int]]]:
    """Types and sizes of a plugin's inputs."""
    sizes = {"heads": 2, "num_hashes": 2, **kernel.sizes, "batch": batch, "length": length}
    return [
        (
            kernel.dtype if operand.dtype == "float" else operand.dtype,
            [sizes[axis] for axis in operand.axes],
        )
        for operand in kernel.plugin.inputs
    ]


def launches(fp32: Rewritten) -> dict[str, Launch]:
    """The launches of torch for the same layers, by step."""
    layers = dict(fp32.layers)
    found = local_layer(layers["local"], dtype="float32", target=TARGET)
    return found | lsh_layer(layers["lsh"], layers["hashing"], dtype="float32", target=TARGET)


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 17), (2, 4096), (1, 65536)])
def test_bindings_evaluate_the_grids_of_the_torch_launches(
    fp32: Rewritten, bindings: Bindings, batch: int, length: int
) -> None:
    types = {"float": "FLOAT", "float32": "FLOAT", "int32": "INT32"}
    wanted = launches(fp32)
    assert {kernel.step for kernel in fp32.kernels.values()} == wanted.keys()
    for kernel in fp32.kernels.values():
        answer = bindings.ask(kernel.plugin.name, kernel.number, shapes(kernel, batch, length))
        launch = wanted[kernel.step]
        assert answer["grid"] == [launch.grid.programs(batch, length), 1, 1]
        assert answer["block"] == [32 * launch.num_warps, 1, 1]
        assert answer["scalars"] == [length]
        assert answer["shared_bytes"] == kernel.shared_bytes
        assert answer["entry"] in answer["ptx"]
        assert len(kernel.plugin.inputs) == len(launch.inputs)
        sizes = {"heads": 2, "num_hashes": 2, **kernel.sizes, "batch": batch, "length": length}
        assert answer["outputs"] == [
            [types[operand.dtype], [sizes[axis] for axis in operand.axes]]
            for operand in kernel.plugin.outputs
        ]


def test_bindings_refuse_kernels_that_are_for_something_else(
    fp32: Rewritten, bindings: Bindings
) -> None:
    named = {kernel.step: kernel for kernel in fp32.kernels.values()}
    kernel = named["attend_rounds"]
    good = shapes(kernel, 1, 64)

    def refusal(inputs: Any = good, *, number: int = kernel.number) -> str:
        return str(bindings.ask("attend_rounds", number, inputs)["error"])

    assert "not among those loaded" in refusal(number=0)
    assert "is for combine_rounds" in refusal(number=named["combine_rounds"].number)
    half = [("float16" if dtype == "float32" else dtype, shape) for dtype, shape in good]
    assert "takes query_key as" in refusal(half)
    wide = [(t, [*s[:-1], 2 * s[-1]] if t == "float32" else s) for t, s in good]
    assert "is compiled for head_dim" in refusal(wide)


# Whole models


@pytest.mark.parametrize("length", [5, 64, 100])
def test_emulated_plugins_of_a_model_equal_onnxruntime(
    fp32: Rewritten, bindings: Bindings, length: int
) -> None:
    """A short sequence, several chunks, a length that is padded; two sequences, one padded."""
    check_model(fp32, bindings, length, tolerance=2e-5)


@pytest.mark.slow
def test_emulated_plugins_of_one_round_equal_onnxruntime(fixtures: Fixtures, folder: Path) -> None:
    """No rounds to combine, and so many buckets that sorting takes two passes."""
    need_bindings()
    config = TINY | {"num_hashes": 1, "num_buckets": [32, 64]}
    found = rewrite(fixtures.artifact("text-generation", config), folder / "one-round")
    chain = [node.op_type for node in found.model.graph if node.domain == "reformer"]
    assert chain == [
        "chunk_attention",
        "lsh_bucket",
        "sort_first_pass",
        "sort_next_pass",
        "attend_rounds",
    ]
    with Bindings(found.folder, TARGET, folder / "stubs") as bindings:
        check_model(found, bindings, 64, tolerance=2e-5)


@pytest.mark.slow
def test_emulated_plugins_of_a_half_precision_model_equal_onnxruntime(
    fixtures: Fixtures, folder: Path
) -> None:
    """Checks nine of ten numbers: fp16 activations differ, and another bucket moves whole rows."""
    need_bindings()
    half = rewrite(fixtures.artifact("text-generation", TINY, dtype="fp16"), folder / "fp16")
    with Bindings(half.folder, TARGET, folder / "stubs") as bindings:
        check_model(half, bindings, 64, tolerance=5e-3, share=0.9)


def check_model(
    found: Rewritten, bindings: Bindings, length: int, *, tolerance: float, share: float = 1.0
) -> None:
    inputs = feeds(length, 2, vocab_size=258)
    outputs = run(ir.to_proto(found.model), inputs, bindings)
    session = onnxruntime.InferenceSession(
        str(found.artifact.format_path("onnx")), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    wanted = dict(zip(names, session.run(None, inputs), strict=True))
    # The numbers at padded positions have no meaning.
    valid = inputs["attention_mask"].astype(bool)
    mine = {name: output[valid] for name, output in zip(names, outputs, strict=True)}
    assert all(np.isfinite(output).all() for output in mine.values())
    theirs = {name: output[valid] for name, output in wanted.items()}
    assert worst_error(mine, theirs, share=share) < tolerance


def test_a_wrong_input_of_a_plugin_shows_in_the_outputs(
    fp32: Rewritten, bindings: Bindings
) -> None:
    """The comparison above can fail: it does if keys are in the place of values."""
    model = ir.load(fp32.artifact.format_path("onnx"))
    use_plugins(model, fp32.kernels)
    node = next(node for node in model.graph if node.op_type == "chunk_attention")
    node.replace_input_with(2, node.inputs[1])
    with pytest.raises(AssertionError):
        check_model(replace(fp32, model=model), bindings, 64, tolerance=2e-5)
