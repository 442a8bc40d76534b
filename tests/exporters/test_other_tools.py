"""Tools that rewrite ONNX files accept our files, and their output gives the same numbers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from ..models.configs import WIDE
from ..tools.model_fixtures import Fixtures, feeds, worst_error
from .test_onnx_export import run, session

Tool = Callable[[Path, Path], None]
TASK = "text-generation"


def quantize_dynamic(source: Path, out: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, out)


def quantize_to_4_bits(source: Path, out: Path) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32)
    quantizer.process()
    quantizer.model.save_model_to_file(str(out))


def onnxruntime_offline(source: Path, out: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it warns that the file is for this machine
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(source, options)


def onnxruntime_preprocess(source: Path, out: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(source, out, skip_symbolic_shape=True)


def onnx_version_converter(source: Path, out: Path) -> None:
    onnx.save(onnx.version_converter.convert_version(onnx.load(source), 21), out)


def onnx_shape_inference(source: Path, out: Path) -> None:
    model = onnx.load(source)
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True), out)


def onnx_inliner(source: Path, out: Path) -> None:
    import onnx.inliner

    onnx.save(onnx.inliner.inline_local_functions(onnx.load(source)), out)


def onnx_compose(source: Path, out: Path) -> None:
    import onnx.compose

    renamed = onnx.compose.add_prefix(
        onnx.load(source), "mine/", rename_inputs=False, rename_outputs=False
    )
    onnx.save(renamed, out)


def onnxscript_version_converter(source: Path, out: Path) -> None:
    from onnxscript import version_converter

    model = ir.load(source)
    version_converter.convert_version(model, target_version=21)
    ir.save(model, out)


def onnxscript_optimizer(source: Path, out: Path) -> None:
    from onnxscript import optimizer

    onnx.save(optimizer.optimize(onnx.load(source)), out)


def onnx_ir_passes(source: Path, out: Path) -> None:
    from onnx_ir.passes import common

    model = ir.load(source)
    for each in (
        common.InlinePass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.ShapeInferencePass(),
        common.TopologicalSortPass(),
    ):
        model = each(model).model
    ir.save(model, out)


def onnxslim(source: Path, out: Path) -> None:
    pytest.importorskip("onnxslim").slim(str(source), str(out))


def onnxsim(source: Path, out: Path) -> None:
    simplified, right = pytest.importorskip("onnxsim").simplify(onnx.load(source))
    assert right
    onnx.save(simplified, out)


def polygraphy_sanitize(source: Path, out: Path) -> None:
    pytest.importorskip("onnx_graphsurgeon")
    arguments = ["surgeon", "sanitize", source, "--fold-constants", "-o", out]
    code = "import sys; from polygraphy.tools import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


EXACT = (
    onnxruntime_offline,
    onnxruntime_preprocess,
    onnx_shape_inference,
    onnx_inliner,
    onnx_compose,
    onnxscript_version_converter,
    onnxscript_optimizer,
    onnx_ir_passes,
    onnxslim,
    onnxsim,
    polygraphy_sanitize,
)
PORTABLE_ONLY = (onnx_version_converter,)
"""Tools that do not support functions in a model, so they get a file of `--ops portable`."""


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param(tool, marks=pytest.mark.slow if tool is polygraphy_sanitize else ())
        for tool in (*EXACT, *PORTABLE_ONLY)
    ],
)
def test_the_same_numbers(fixtures: Fixtures, tmp_path: Path, tool: Tool) -> None:
    ops = "portable" if tool in PORTABLE_ONLY else "auto"
    with_linear = fixtures.artifact(TASK, WIDE, ops=ops)
    for artifact in (fixtures.artifact(TASK, ops=ops), with_linear):
        source = artifact.format_path("onnx")
        tool(source, tmp_path / "out.onnx")
        inputs = feeds(43, 2)
        expected = run(session(source), inputs)
        assert worst_error(run(session(tmp_path / "out.onnx"), inputs), expected) < 1e-6


@pytest.mark.parametrize(
    ("tool", "ops", "bound"),
    [
        (quantize_dynamic, "auto", 0.1),
        (quantize_dynamic, "portable", 0.1),
        (quantize_to_4_bits, "portable", 0.4),
    ],
)
def test_fewer_bits(fixtures: Fixtures, tmp_path: Path, tool: Tool, ops: str, bound: float) -> None:
    """The model does not hash, so that rounding moves no token into another bucket.

    With "auto" most weights are in nodes of our operators, which quantizers do not change.
    """
    config = WIDE | {"attn_layers": ["local", "local"]}
    source = fixtures.artifact(TASK, config, ops=ops).format_path("onnx")
    tool(source, tmp_path / "out.onnx")
    inputs = feeds(43, 2)
    expected = run(session(source), inputs)
    found = run(session(tmp_path / "out.onnx"), inputs)
    assert 0 < worst_error(found, expected) < bound


def test_the_limits_are_in_the_file(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact(TASK)
    model = onnx.load(artifact.format_path("onnx"))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {
        "reformer.task": TASK,
        "reformer.min_length": "1",
        "reformer.max_length": str(artifact.signature.max_length),
        "reformer.vocab_size": str(artifact.signature.vocab_size),
    }
    longest = f"1 to {artifact.signature.max_length}"
    assert longest in model.doc_string
    assert longest in model.graph.input[0].doc_string
    opened = onnxruntime.InferenceSession(artifact.format_path("onnx"))
    assert opened.get_modelmeta().custom_metadata_map == metadata
    # The error for a user who does not read the limits.
    with pytest.raises(Exception, match=r"Gather|Expand|Slice|position"):
        opened.run(None, feeds(artifact.signature.max_length + 1))


def test_no_shape_of_a_weight_is_said_twice(fixtures: Fixtures) -> None:
    graph = onnx.load(fixtures.artifact(TASK).format_path("onnx")).graph
    weights = {tensor.name for tensor in graph.initializer}
    assert weights
    assert not weights & {value.name for value in graph.value_info}
    assert np.all([value.type.HasField("tensor_type") for value in graph.value_info])
