"""`model.onnx` for people and other tools: names, axes, attributes, no weight stored twice."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import transformers
from google.protobuf.message import Message

from reformer_export import to_onnx
from reformer_export.artifact.external_data import tensors
from reformer_export.errors import ExportError
from reformer_export.exporters.onnx.passes import attach_bodies
from reformer_ops.core.spec import OpSpec
from reformer_ops.registry import FUSED, OPS, by_onnx_name

from ..models.reformers import SMALL, theirs
from ..tools.artifact_fixtures import environment
from ..tools.model_fixtures import CONFIGS, TINY, Fixtures

ROOT = Path(__file__).resolve().parents[2]

# The names that optimum uses, because other programs already read its artifacts.
OUTPUTS: dict[str, dict[str, list[str | int]]] = {
    "feature-extraction": {"last_hidden_state": ["batch", "sequence", 24]},
    "text-generation": {"logits": ["batch", "sequence", 40]},
    "fill-mask": {"logits": ["batch", "sequence", 258]},
    "text-classification": {"logits": ["batch", 3]},
    "question-answering": {
        "start_logits": ["batch", "sequence"],
        "end_logits": ["batch", "sequence"],
    },
}

# The path of a module, then the operator, then a name for the value. In the bodies of our
# operators: only a name for the value.
READABLE = re.compile(
    r"(?:[a-z_]+(?:\.[a-z0-9_]+)*/)?[A-Z][A-Za-z]+(?:_\d+)?(?:/[a-z_]+(?:_\d+)?)?"
)
IN_BODY = re.compile(r"(?!val_)[a-z][a-z0-9]*(?:_[a-z0-9]+)*")


@pytest.fixture(params=["auto", "portable"])
def graph(fixtures: Fixtures, request: pytest.FixtureRequest) -> onnx.GraphProto:
    model = onnx.load(fixtures.artifact(ops=request.param).format_path("onnx"))
    return model.graph


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    shape = value.type.tensor_type.shape
    return [axis.dim_param if axis.HasField("dim_param") else axis.dim_value for axis in shape.dim]


@pytest.mark.parametrize("task", CONFIGS)
def test_inputs_and_outputs(fixtures: Fixtures, task: str) -> None:
    artifact = fixtures.artifact(task)
    found = onnx.load(artifact.format_path("onnx")).graph
    assert {value.name: dims(value) for value in found.input} == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
    }
    assert {value.name: dims(value) for value in found.output} == OUTPUTS[task]
    for value, spec in zip(found.output, artifact.signature.outputs, strict=True):
        assert (value.name, dims(value)) == (spec.name, list(spec.axes))
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("task", CONFIGS)
def test_nothing_keeps_the_cuda_provider_from_the_graph(fixtures: Fixtures, task: str) -> None:
    """Nodes without a kernel in ONNX Runtime's CUDA provider run on the CPU, with copies around.

    A Pad of integers is such a node. A Clip with an open bound is a different problem: shapes that
    are computed from it count as data, are computed on the GPU, and are copied back.
    """
    graph = onnx.load(fixtures.artifact(task).format_path("onnx")).graph
    assert not [node.name for node in graph.node if node.op_type == "Pad"]
    open_bounds = [n.name for n in graph.node if n.op_type == "Clip" and "" in n.input]
    assert not open_bounds


def test_axes_inside_have_names_a_reader_knows(graph: onnx.GraphProto) -> None:
    known = {value.name: dims(value) for value in graph.value_info}
    axes = {axis for shape in known.values() for axis in shape if isinstance(axis, str)}
    numbered = {axis for axis in axes if re.fullmatch(r"size_\d+", axis)}
    assert axes - numbered == {"batch", "sequence", "padded_sequence"}
    layer = "reformer.encoder.layers.1.attention.self_attention"
    assert known[f"{layer}.query_key/MatMul/output"] == ["batch", "padded_sequence", 12]
    assert known[f"{layer}/LshBucket/output"] == ["batch", 2, 2, "padded_sequence"]
    assert known["reformer/Not/output"] == ["batch", "padded_sequence"]  # the mask


def test_names_are_unique(graph: onnx.GraphProto) -> None:
    nodes = [node.name for node in graph.node]
    values = [name for node in graph.node for name in node.output]
    values += [value.name for value in (*graph.input, *graph.initializer)]
    for names in (nodes, values):
        assert [name for name, count in Counter(names).items() if count > 1] == []
        assert all(names)


def test_names_are_readable(graph: onnx.GraphProto) -> None:
    assert [node.name for node in graph.node if not READABLE.fullmatch(node.name)] == []
    values = {name for node in graph.node for name in node.output}
    values -= {value.name for value in graph.output}
    assert [name for name in values if not READABLE.fullmatch(name)] == []


def test_weights_are_named_by_their_modules(fixtures: Fixtures, graph: onnx.GraphProto) -> None:
    modules = {name for name, _ in fixtures.model().named_modules()}
    strange = []
    for tensor in graph.initializer:
        module, _, rest = tensor.name.rpartition("/")
        if rest.startswith("constant"):  # of a node: the module's path and the operator
            strange += [tensor.name] if not READABLE.fullmatch(module) else []
            assert len(tensor.dims) < 2
        else:
            owner = tensor.name.rpartition(".")[0].removesuffix(".weights")
            strange += [tensor.name] if owner not in modules else []
    assert strange == []


def test_names_in_bodies(fixtures: Fixtures) -> None:
    model = onnx.load(fixtures.artifact().format_path("onnx"))
    assert {body.name for body in model.functions} == {op.name for op in (*OPS, *FUSED)}
    for body in model.functions:
        spec = by_onnx_name(body.name)
        assert list(body.input) == [operand.name for operand in spec.inputs]
        assert list(body.attribute) == [attribute.name for attribute in spec.attributes]
        names = [name for node in body.node for name in node.output]
        assert len({*names, *body.input}) == len(names) + len(body.input)
        assert [name for name in names if not IN_BODY.fullmatch(name)] == []


def test_attributes_come_in_the_order_of_the_spec(fixtures: Fixtures) -> None:
    nodes = onnx.load(fixtures.artifact().format_path("onnx")).graph.node
    ours = [node for node in nodes if node.domain == "reformer"]
    # Two sums in each of four layers, but no norm directly after the last sum.
    assert Counter(node.op_type for node in ours) == {"AddNorm": 7, **{op.name: 2 for op in OPS}}
    for node in ours:
        wanted = [attribute.name for attribute in by_onnx_name(node.op_type).attributes]
        assert [attribute.name for attribute in node.attribute] == wanted
        assert len(node.output) == len(by_onnx_name(node.op_type).outputs)


def test_portable_has_standard_operators_alone(fixtures: Fixtures) -> None:
    model = onnx.load(fixtures.artifact(ops="portable").format_path("onnx"))
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions


@pytest.mark.parametrize("options", [{"ops": "auto"}, {"ops": "portable", "dtype": "fp16"}])
def test_nothing_tells_where_it_was_made(fixtures: Fixtures, options: dict[str, str]) -> None:
    path = fixtures.artifact(**options).format_path("onnx")
    data = path.read_bytes()
    for telling in (
        *(ROOT, Path.home(), sys.prefix, sys.base_prefix, path.parent.parent),
        *("site-packages", "dist-packages", ".py", "Traceback", "File ", "pkg.torch", "namespace"),
    ):
        if str(telling) != "/":
            assert str(telling).encode() not in data
    model = onnx.load(path)
    found = list(strings(model))
    assert "input_ids" in found
    assert [text for text in found if text.startswith(("/", "~", "\\")) or "\n" in text] == []
    assert model.producer_name == "reformer-export"
    assert all(entry.key.startswith("reformer.") for entry in model.metadata_props)


def strings(message: Message) -> Iterator[str]:
    """Every text in a protobuf message."""
    for _, value in message.ListFields():
        for item in [value] if isinstance(value, (str, bytes, Message)) else value_list(value):
            if isinstance(item, str):
                yield item
            elif isinstance(item, Message):
                yield from strings(item)


def value_list(value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError:  # a number
        return []


@pytest.mark.parametrize("task", ["text-generation", "question-answering"])
@pytest.mark.parametrize("ops", ["auto", "portable"])
def test_no_weight_is_stored_twice(fixtures: Fixtures, task: str, ops: str) -> None:
    """Above all the rotations, which the LSH layers share."""
    model = onnx.load(fixtures.artifact(task, ops=ops).format_path("onnx"))
    stored = [
        (tensor.data_type, tuple(tensor.dims), hashlib.sha256(tensor.raw_data).hexdigest())
        for tensor in model.graph.initializer
    ]
    assert [entry for entry, count in Counter(stored).items() if count > 1] == []
    assert sum(tensor.name.endswith(".rotations") for tensor in model.graph.initializer) == 1


def test_layers_as_initialised_are_stored_once_too(tmp_path: Path) -> None:
    """Before training all norms have equal weights. The export must not depend on that or fail."""
    config = transformers.ReformerConfig(**TINY)
    model = transformers.ReformerModelWithLMHead(config)
    model.save_pretrained(tmp_path / "checkpoint")
    artifact = to_onnx(tmp_path / "checkpoint", tmp_path / "out", verify=False)
    found = onnx.load(artifact.format_path("onnx")).graph
    names = [tensor.name for tensor in found.initializer]
    used = {name for node in found.node for name in node.input}
    assert len(set(names)) == len(names)
    assert set(names) <= used


def test_large_weights_are_stored_as_they_are_used(tmp_path: Path) -> None:
    """Torch's optimizer transposes only small weights; onnxruntime would do the rest at loading."""
    sizes = {"num_attention_heads": 4, "attention_head_size": 512, "hidden_size": 512}
    config = SMALL | {"attn_layers": ["local"], "axial_pos_embds_dim": [256, 256]} | sizes
    model = theirs("text-generation", **config)
    model.save_pretrained(tmp_path / "checkpoint")
    out, checkpoint = tmp_path / "out", tmp_path / "checkpoint"
    artifact = to_onnx(checkpoint, out, ops="portable", verify=False)
    found = onnx.load(artifact.format_path("onnx")).graph
    weights = {tensor.name: list(tensor.dims) for tensor in found.initializer}
    attention = "reformer.encoder.layers.0.attention"
    assert weights[f"{attention}.self_attention.query.weight"] == [512, 4 * 512]
    assert weights[f"{attention}.output.dense.weight"] == [4 * 512, 512]
    assert not [n.name for n in found.node if n.op_type == "Transpose" and n.input[0] in weights]
    # If a weight were stored in both orders, the file would be larger.
    parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert artifact.format_path("onnx").stat().st_size < parameters + 200_000


def test_two_exports_are_alike_to_the_byte(fixtures: Fixtures, tmp_path: Path) -> None:
    """In another process, in which strings have other hashes."""
    code = (
        "import sys; from reformer_export import to_onnx;"
        "to_onnx(*sys.argv[1:], external_data=True, verify=False)"
    )
    out = tmp_path / "out"
    subprocess.run(
        [sys.executable, "-c", code, fixtures.checkpoint(), out],
        env={**environment(), "PYTHONHASHSEED": "12345"},
        check=True,
        capture_output=True,
    )
    first = fixtures.artifact(external_data=True)
    for name in ("model.onnx", "model.onnx_data", "config.json"):
        assert (out / name).read_bytes() == (first.path / name).read_bytes()


def test_every_tensor_of_an_external_artifact_is_small_or_outside(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact(external_data=True)
    model = onnx.load(artifact.format_path("onnx"), load_external_data=False)
    places = {
        entry.value
        for tensor in tensors(model)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert places == {"model.onnx_data"}
    assert max(len(tensor.raw_data) for tensor in tensors(model)) <= 1024


def _model_of(*nodes: tuple[OpSpec, dict[str, Any]]) -> ir.Model:
    """Nodes of our operators that read the same inputs."""
    inputs: dict[str, ir.Value] = {}
    made = []
    for number, (op, attributes) in enumerate(nodes):
        operands = [inputs.setdefault(o.name, ir.Value(name=o.name)) for o in op.inputs]
        converted = ir.convenience.convert_attributes(attributes)
        outputs = [ir.Value(name=f"result_{number}")]
        made.append(
            ir.Node(
                "reformer", op.name, operands, converted, outputs=outputs, name=f"node_{number}"
            )
        )
    imports = {"": 18, "reformer": 1}
    outputs = [node.outputs[0] for node in made]
    graph = ir.Graph([*inputs.values()], outputs, nodes=made, opset_imports=imports)
    return ir.Model(graph, ir_version=10)


ATTENTION: dict[str, Any] = {
    "chunk_length": 4,
    "num_chunks_before": 1,
    "num_chunks_after": 0,
    "causal": 1,
}


def test_bodies_are_attached_for_what_is_there() -> None:
    op = by_onnx_name("ChunkAttention")
    model = _model_of((op, ATTENTION), (op, ATTENTION))
    attach_bodies(model, ir.DataType.FLOAT)
    assert [name for _, name, _ in model.functions] == ["ChunkAttention"]


@pytest.mark.parametrize(
    "change",
    [{"chunk_length": 8}, {"num_chunks_before": 2}, {"num_chunks_after": 1}, {"causal": 0}],
)
def test_one_body_cannot_serve_two_sets_of_attributes(change: dict[str, int]) -> None:
    op = by_onnx_name("ChunkAttention")
    model = _model_of((op, ATTENTION), (op, ATTENTION | change))
    with pytest.raises(ExportError, match=r"node_1 and node_0 .* differ .* --ops portable"):
        attach_bodies(model, ir.DataType.FLOAT)
