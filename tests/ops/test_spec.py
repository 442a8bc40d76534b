"""torch, ONNX and Python have exactly what a spec declares."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

import reformer_ops
from reformer_ops import onnx_bodies, torch_ops
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.registry import ALL, OPS, by_onnx_name

from . import tolerances
from .examples import EXAMPLES
from .onnx_models import Form, make_model

by_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = Path(reformer_ops.__file__).parent

ATTRIBUTE_TYPES = {
    "int": onnx.AttributeProto.INT,
    "ints": onnx.AttributeProto.INTS,
    "bool": onnx.AttributeProto.INT,
}


def inputs_of(op: OpSpec) -> list[str]:
    return [operand.name for operand in op.inputs]


def attributes_of(op: OpSpec) -> list[str]:
    return [attribute.name for attribute in op.attributes]


def test_names_are_unique() -> None:
    """TensorRT's parser looks at the name of an operator only, not at its domain."""
    assert len({op.name for op in OPS}) == len({op.torch_name for op in OPS}) == len(OPS)
    assert not {op.name for op in OPS} & {schema.name for schema in onnx.defs.get_all_schemas()}
    assert [by_onnx_name(op.name) for op in OPS] == list(OPS)


def test_the_domain_has_no_dot() -> None:
    assert DOMAIN.isidentifier()


@by_op
def test_arguments_in_python(op: OpSpec) -> None:
    names = inputs_of(op) + attributes_of(op)
    body = importlib.import_module(f"reformer_ops.{op.torch_name}.onnx_body").body
    assert list(inspect.signature(tolerances.reference(op)).parameters) == names
    # Dropout is for training, which the reference and the body do not support.
    function = inspect.signature(getattr(torch_ops, op.torch_name)).parameters
    assert [name for name in function if name != "dropout"] == names
    assert list(inspect.signature(body).parameters)[1:] == names


@by_op
def test_torch_schema(op: OpSpec) -> None:
    schema = getattr(getattr(torch.ops, DOMAIN), op.torch_name).default._schema
    arguments = schema.arguments
    assert [argument.name for argument in arguments] == inputs_of(op) + attributes_of(op)
    tensors, attributes = arguments[: len(op.inputs)], arguments[len(op.inputs) :]
    assert {str(argument.type) for argument in tensors} == {"Tensor"}
    types = {"int": "int", "ints": "List[int]", "bool": "bool"}
    assert [str(a.type) for a in attributes] == [types[a.kind] for a in op.attributes]
    assert [str(result.type) for result in schema.returns] == ["Tensor"]
    assert not any(argument.has_default_value() for argument in arguments)


@by_op
@pytest.mark.parametrize("form", ["node", "function"])
def test_onnx_node(op: OpSpec, form: Form) -> None:
    model = make_model(op, EXAMPLES[op.name].attributes, "float32", form)
    (node,) = model.graph.node
    assert (node.domain, node.op_type) == (DOMAIN, op.name)
    assert list(node.input) == inputs_of(op)
    assert list(node.output) == [operand.name for operand in op.outputs]
    # In the order of the spec: TensorRT plugins read them by position.
    assert [a.name for a in node.attribute] == attributes_of(op)
    assert [a.type for a in node.attribute] == [ATTRIBUTE_TYPES[a.kind] for a in op.attributes]
    assert {entry.domain: entry.version for entry in model.opset_import}[DOMAIN] == op.version


@by_op
def test_onnx_function(op: OpSpec) -> None:
    model = make_model(op, EXAMPLES[op.name].attributes, "float32", "function")
    (function,) = model.functions
    assert (function.domain, function.name) == (DOMAIN, op.name)
    assert list(function.input) == inputs_of(op)
    assert list(function.attribute) == attributes_of(op)
    assert len(function.output) == len(op.outputs)
    onnx.checker.check_model(model, full_check=True)


@by_op
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bodies_use_standard_operators_alone(op: OpSpec, dtype: str) -> None:
    """Nor do bodies use operators that some runtime lacks: TensorRT refuses those in `refused`."""
    refused = {"TopK", "NonZero", "Unique", "Compress", "BitwiseAnd", "BitShift", "OneHot"}
    for form in ("function", "inlined"):
        model = make_model(op, EXAMPLES[op.name].attributes, dtype, form)
        nodes = list(model.functions[0].node if model.functions else model.graph.node)
        assert {node.domain for node in nodes} == {""}
        assert not {node.op_type for node in nodes} & refused
        assert not any(node.op_type.startswith("Random") for node in nodes)
        written = [name for node in nodes for name in node.output]
        assert len(set(written)) == len(written)
        used = {name for node in nodes for name in node.input} | set(
            model.functions[0].output if model.functions else [model.graph.output[0].name]
        )
        assert set(written) <= used, "a node computes what nobody reads"


@by_op
def test_reference_gives_what_is_declared(op: OpSpec) -> None:
    case = EXAMPLES[op.name]
    sizes = {
        axis: size
        for operand in op.inputs
        for axis, size in zip(operand.axes, case.inputs[operand.name].shape, strict=True)
    }
    (declared,) = op.outputs
    output = tolerances.expected(op, case)
    assert output.shape == tuple(sizes[axis] for axis in declared.axes)
    assert output.dtype == ("float64" if declared.dtype == "float" else declared.dtype)


def versions_in_cpp(header: Path, operators: Path) -> dict[str, int]:
    """The versions that `OpVersions.cmake` takes from the specs for the C++ sources."""
    script = OPERATORS.parent / "cmake/OpVersions.cmake"
    command = ["cmake", "-D", f"HEADER={header}", "-D", f"OPERATORS={operators}", "-P", str(script)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, check=True, env=os.environ | {"PATH": path})
    return {
        name: int(version)
        for name, version in re.findall(r'\{"(\w+)", (\d+)\}', header.read_text())
    }


def test_versions_in_cpp_are_those_of_the_specs(tmp_path: Path) -> None:
    header = tmp_path / "op_versions.h"
    declared = {op.name: op.version for op in ALL}
    assert versions_in_cpp(header, OPERATORS) == declared
    for op in ALL:
        (tmp_path / op.torch_name).mkdir()
        text = (OPERATORS / op.torch_name / "spec.py").read_text()
        later = text.replace(f"version={op.version},", f"version={op.version + 6},")
        (tmp_path / op.torch_name / "spec.py").write_text(later)
    assert versions_in_cpp(header, tmp_path) == {name: n + 6 for name, n in declared.items()}


def test_no_version_is_written_in_cpp() -> None:
    """A version next to an operator's name would duplicate the version in the spec."""
    names = "|".join(op.name for op in ALL)
    second = re.compile(rf'"({names})",\s*\d')
    sources = [*OPERATORS.parent.rglob("*.cpp"), *OPERATORS.parent.rglob("*.h")]
    sources += (ROOT / "reformer_export/runtimes/cpp").rglob("*.cpp")
    assert len(sources) > 50
    assert not [str(path) for path in sources if second.search(path.read_text())]


def test_every_op_has_a_body() -> None:
    assert set(onnx_bodies._BODIES) == {op.name for op in ALL}
