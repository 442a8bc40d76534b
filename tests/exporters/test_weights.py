"""`--weights`: artifacts with weights of fewer bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto

import reformer_ops
from reformer_export import (
    open_generator,
    open_runner,
    to_aoti,
    to_onnx,
    to_tensorrt,
    to_torchscript,
    verify_artifact,
)
from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import ENGINE
from reformer_export.artifact.manifest import WeightsRecord
from reformer_export.errors import ParityError, UsageError
from reformer_export.exporters.cuda.export import add_cuda_kernels
from reformer_export.exporters.tensorrt.graph import lower

from ..models.configs import WIDE
from ..runtimes.programs import in_cpp
from ..tools.model_fixtures import Fixtures, feeds

TASK = "text-generation"
MODEL = {**WIDE, "vocab_size": 48}
"""All its sizes are multiples of 16."""
FOR_4_BITS = {**MODEL, "feed_forward_size": 64}
"""All inputs of its layers are multiples of 32."""
OTHERS = {
    "feature-extraction": {},
    "fill-mask": {"is_decoder": False},
    "text-classification": {"is_decoder": False, "num_labels": 3},
    "question-answering": {"is_decoder": False, "num_labels": 2},
}

by_weights = pytest.mark.parametrize(
    "weights", ["int8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("int4", "fp16"))]
)


@pytest.fixture
def source(fixtures: Fixtures) -> Path:
    return fixtures.checkpoint(TASK, MODEL)


@pytest.fixture
def artifact(fixtures: Fixtures) -> Artifact:
    return fixtures.artifact(TASK, MODEL, weights="int8")


def nodes(artifact: Artifact) -> list[str]:
    return [node.op_type for node in onnx.load(artifact.format_path("onnx")).graph.node]


def test_an_export(source: Path, fixtures: Fixtures, tmp_path: Path) -> None:
    made = to_onnx(source, tmp_path / "out", weights="int8")
    record = made.manifest.weights
    assert record is not None
    assert (record.type, record.kept) == ("int8", ())
    quality = record.quality
    assert quality is not None
    assert quality["samples"] == "sequences that the model generated"
    assert quality["agreement"] > 0.8
    assert 0 < quality["error"] < 0.3
    assert 0 < quality["flips"] < 0.2
    assert abs(quality["loss"]) < 0.05
    parity = made.parity("onnx")
    assert parity is not None
    assert parity["passed"] is True
    assert made.manifest.ops.versions["Int8Linear"] == 1
    assert Artifact.open(made.path).manifest.weights == record
    # 2 or 3 projections and an output in each of 4 layers, and the head.
    assert nodes(made).count("Int8Linear") == 10 + 4 + 1
    assert nodes(made).count("Int8FeedForwardAdd") == 4
    size = made.path.joinpath("model.onnx").stat().st_size
    full = fixtures.artifact(TASK, MODEL).path.joinpath("model.onnx").stat().st_size
    assert size < 0.65 * full  # a third of it is the graph


@pytest.mark.parametrize(
    "task",
    ["feature-extraction", *(pytest.param(t, marks=pytest.mark.slow) for t in list(OTHERS)[1:])],
)
def test_every_task(task: str, fixtures: Fixtures, tmp_path: Path) -> None:
    source = fixtures.checkpoint(task, MODEL | OTHERS[task])
    made = to_onnx(source, tmp_path / "out", task=task, weights="int8")
    quality = made.manifest.weights and made.manifest.weights.quality
    assert quality is not None
    assert quality["samples"] == "random tokens"
    assert quality["error"] < 0.3
    assert (quality["agreement"] is None) == (task in ("feature-extraction", "question-answering"))
    assert quality["loss"] is None


@pytest.mark.parametrize(
    "options",
    [
        {"ops": "portable"},
        *(pytest.param(o, marks=pytest.mark.slow) for o in ({"dtype": "fp16"}, {"opset": 23})),
    ],
)
def test_other_options(options: dict[str, Any], source: Path, tmp_path: Path) -> None:
    made = to_onnx(source, tmp_path / "out", weights="int8", **options)
    parity = made.parity("onnx")
    assert parity is not None
    assert parity["passed"] is True
    assert ("Int8Linear" in nodes(made)) == ("ops" not in options)


def test_plain_onnxruntime_and_our_kernels(artifact: Artifact) -> None:
    """Rounding may fall either way in each, so the outputs differ by less than the rounding."""
    inputs = feeds(90, 2, vocab_size=MODEL["vocab_size"])
    found = []
    for options in (onnxruntime.SessionOptions(), reformer_ops.session_options()):
        session = onnxruntime.InferenceSession(artifact.format_path("onnx"), options)
        found.append(session.run(["logits"], inputs)[0][0])
    difference = np.sqrt(np.square(found[0] - found[1]).mean())
    assert difference < 0.1 * np.sqrt(np.square(found[0]).mean())


def test_a_row_does_not_depend_on_the_others(artifact: Artifact) -> None:
    runner = open_runner(artifact, ops="native")
    inputs = feeds(64, 3, vocab_size=MODEL["vocab_size"])
    together = runner.run(inputs)["logits"]
    for row in range(3):
        alone = runner.run({name: array[row : row + 1] for name, array in inputs.items()})
        np.testing.assert_array_equal(alone["logits"][0], together[row])


def test_a_token_does_not_depend_on_later_ones(fixtures: Fixtures) -> None:
    """In one chunk, where nothing is hashed."""
    runner = open_runner(fixtures.artifact(TASK, MODEL, weights="int8"), ops="native")
    inputs = feeds(4, 1, vocab_size=MODEL["vocab_size"])
    changed = {**inputs, "input_ids": inputs["input_ids"].copy()}
    changed["input_ids"][0, 3] = (changed["input_ids"][0, 3] + 1) % MODEL["vocab_size"]
    found, other = (runner.run(each)["logits"][0] for each in (inputs, changed))
    np.testing.assert_array_equal(found[:3], other[:3])
    assert (found[3] != other[3]).any()


@pytest.mark.parametrize("weights", ["int8", "int4", pytest.param("fp16", marks=pytest.mark.slow)])
def test_in_cpp(weights: str, fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = fixtures.artifact(TASK, MODEL, weights=weights)
    inputs = feeds(50, 1, vocab_size=MODEL["vocab_size"])
    np.save(tmp_path / "ids.npy", inputs["input_ids"])
    wanted = open_runner(artifact, ops="native").run(inputs)["logits"]
    out = tmp_path / "out.npz"
    ran = in_cpp(artifact.path, "--input-ids", tmp_path / "ids.npy", "--output", out, "--json")
    assert ran.document
    np.testing.assert_array_equal(np.load(out)["logits"], wanted)


@pytest.mark.slow
@by_weights
def test_generation(weights: str, fixtures: Fixtures, tmp_path: Path) -> None:
    made = fixtures.decoder(MODEL, weights=weights)
    generator = open_generator(made)
    prompts = feeds(20, 2, vocab_size=MODEL["vocab_size"])["input_ids"]
    together = generator.generate(prompts, max_new_tokens=10)
    for row in range(2):
        alone = generator.generate(prompts[row : row + 1], max_new_tokens=10)
        np.testing.assert_array_equal(alone[0], together[row, : alone.shape[1]])
        np.save(tmp_path / "ids.npy", prompts[row])
        arguments = ["--input-ids", tmp_path / "ids.npy", "--generate", "--json"]
        ran = in_cpp(made.path, *arguments, "--max-new-tokens", 10)
        assert ran.document["tokens"] == alone.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["int8", "int4", "fp16"])
def test_generation_is_verified(weights: str, source: Path, tmp_path: Path) -> None:
    made = to_onnx(source, tmp_path / "out", task="text-generation-with-past", weights=weights)
    parity = made.parity("onnx")
    assert parity is not None
    assert any("generating" in row["reference"] for row in parity["rows"])


@by_weights
@pytest.mark.parametrize("export", [to_torchscript, pytest.param(to_aoti, marks=pytest.mark.slow)])
def test_other_formats(export: Any, weights: str, source: Path, tmp_path: Path) -> None:
    made = export(source, tmp_path / "out", weights=weights, keep=["query_key"])
    assert made.manifest.weights is not None
    assert made.manifest.weights.kept == ("query_key",)
    assert verify_artifact(made.path, lengths=[40]).passed


def test_formats_of_other_weights_do_not_share_an_artifact(source: Path, tmp_path: Path) -> None:
    to_onnx(source, tmp_path / "out", weights="int8", verify=False)
    for options in ({}, {"weights": "int8", "keep": ["head"]}):
        with pytest.raises(UsageError, match="an artifact with another choice of --weights"):
            to_torchscript(source, tmp_path / "out", verify=False, **options)
    both = to_torchscript(source, tmp_path / "out", weights="int8", verify=False)
    assert set(both.formats) == {"onnx", "torchscript"}


def test_no_comparison_without_verification(source: Path, tmp_path: Path) -> None:
    made = to_onnx(source, tmp_path / "out", weights="int8", keep=["head"], verify=False)
    assert made.manifest.weights == WeightsRecord("int8", ("head",), None)


def test_the_loss_is_bounded(source: Path, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(MODEL["vocab_size"], size=(2, 100))
    np.save(tmp_path / "ids.npy", ids)
    options = {"weights": "int8", "calibration": tmp_path / "ids.npy", "verify": False}
    with pytest.raises(ParityError, match=r"cost .*% more bits .* --max-loss allows -90.00%"):
        to_onnx(source, tmp_path / "out", max_loss=-0.9, **options)
    assert not (tmp_path / "out").exists()
    made = to_onnx(source, tmp_path / "out", max_loss=0.5, **options)
    quality = made.manifest.weights and made.manifest.weights.quality
    assert quality is not None
    assert (quality["samples"], quality["tokens"]) == ("ids.npy", 200)


def test_a_text_is_measured_in_bytes(fixtures: Fixtures, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(bytes(range(32, 120)) * 4)
    source = fixtures.checkpoint(TASK, MODEL | {"vocab_size": 256})
    made = to_onnx(
        source,
        tmp_path / "out",
        weights="int8",
        calibration=tmp_path / "text.txt",
        tokenizer="bytes",
        verify=False,
    )
    quality = made.manifest.weights and made.manifest.weights.quality
    assert quality is not None
    assert quality["tokens"] == 352
    assert 6 < quality["bits_before"] < 12


def test_4_bits(fixtures: Fixtures, tmp_path: Path) -> None:
    source = fixtures.checkpoint(TASK, FOR_4_BITS)
    made = to_onnx(source, tmp_path / "out", weights="int4", keep=["head"])
    record, parity = made.manifest.weights, made.parity("onnx")
    assert record is not None
    assert record.quality is not None
    assert record.type == "int4"
    assert 0 < record.quality["error"] < 1
    assert parity is not None
    assert parity["passed"] is True
    assert made.manifest.ops.versions["Int4Linear"] == 1
    # 2 or 3 projections and an output in each of 4 layers.
    assert nodes(made).count("Int4Linear") == 10 + 4
    assert nodes(made).count("Int4FeedForwardAdd") == 4
    stored = {
        tensor.name: tensor
        for tensor in onnx.load(made.format_path("onnx")).graph.initializer
        if tensor.data_type in (TensorProto.UINT8, TensorProto.INT8)
    }
    name = "reformer.encoder.layers.1.feed_forward.down"
    assert list(stored[f"{name}.weight"].dims) == [2, 64 // 8, 16, 4]
    assert list(stored[f"{name}.step"].dims) == [2, 64 // 32, 16]


def test_fp16(source: Path, tmp_path: Path) -> None:
    """Half the size; the parity is that of fp32, and the model hardly changes."""
    made = to_onnx(source, tmp_path / "out", weights="fp16", keep=["query_key"], max_loss=0.01)
    record, parity = made.manifest.weights, made.parity("onnx")
    assert record is not None
    assert record.quality is not None
    assert 0 < record.quality["error"] < 0.05
    assert parity is not None
    assert parity["passed"] is True
    assert parity["tolerance"]["output"] == 1e-4
    assert "Int8Linear" not in made.manifest.ops.versions
    path = made.format_path("onnx")
    matrices = {
        tensor.name: tensor.data_type
        for tensor in onnx.load(path).graph.initializer
        if len(tensor.dims) > 1 and tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
    }
    wide = {name for name, kind in matrices.items() if kind == TensorProto.FLOAT}
    assert len(matrices) > 20
    assert all("query_key" in name or "rotations" in name for name in wide)
    inputs = feeds(90, 2, vocab_size=MODEL["vocab_size"])
    plain, ours = (
        onnxruntime.InferenceSession(path, options).run(["logits"], inputs)[0]
        for options in (onnxruntime.SessionOptions(), reformer_ops.session_options())
    )
    np.testing.assert_allclose(ours, plain, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "fp16", "dtype": "fp16"}, "with fp16 all weights have 16 bits already"),
        ({"keep": ["head"]}, "--keep is for weights of fewer bits: give --weights"),
        ({"max_loss": 0.1}, "--max-loss is for weights of fewer bits"),
        ({"calibration": "text"}, "--calibration is for weights of fewer bits"),
        ({"weights": "int8", "cuda": ["sm90"]}, "not for int8: give --cuda or --weights"),
    ],
)
def test_what_is_refused(
    options: dict[str, Any], message: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        to_onnx(source, tmp_path / "out", **options)


def test_a_bound_needs_a_language_model(fixtures: Fixtures, tmp_path: Path) -> None:
    source = fixtures.checkpoint("fill-mask", MODEL | OTHERS["fill-mask"])
    with pytest.raises(UsageError, match="which only text-generation has"):
        to_onnx(source, tmp_path / "out", weights="int8", max_loss=0.1, verify=False)
    assert not (tmp_path / "out").exists()


def test_gpus_take_all_bits(artifact: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")
    with pytest.raises(UsageError, match="has weights of int8, which our kernels for GPUs do not"):
        add_cuda_kernels(artifact.path, targets=["sm90"])


@pytest.mark.parametrize(
    ("weights", "dtype"),
    [
        ("int8", "fp32"),
        *(
            pytest.param(*more, marks=pytest.mark.slow)
            for more in (("int8", "fp16"), ("int8", "bf16"), ("int4", "fp32"), ("int4", "fp16"))
        ),
    ],
)
def test_an_engine_contains_the_integers_of_the_weights(
    weights: str, dtype: str, fixtures: Fixtures, tmp_path: Path
) -> None:
    artifact = fixtures.artifact(TASK, FOR_4_BITS, weights=weights)
    engine = to_tensorrt(artifact.path, tmp_path / "engine", flavor="rtx", dtype=dtype)
    parity = engine.record.parity
    assert parity is not None
    assert parity["passed"] is True
    if dtype == "fp32":  # only the weights are rounded, as in the reference
        assert parity["worst_error"] < 1e-4
    model = ir.load(artifact.format_path("onnx"))
    lower(model, dtype)
    matrices = [
        value.const_value.numpy()
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.dtype == ir.DataType.INT8
    ]
    assert len(matrices) == engine.record.layer_types()["dequantize"] > 20
    stored = (engine.path / ENGINE).read_bytes()
    for matrix in matrices:
        assert matrix.tobytes() in stored or matrix.T.tobytes() in stored


@pytest.mark.slow
def test_an_engine_from_weights_in_fp16(fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = fixtures.artifact(TASK, MODEL, weights="fp16")
    engine = to_tensorrt(artifact.path, tmp_path / "engine", flavor="rtx", dtype="fp16")
    assert engine.record.parity is not None
    assert engine.record.parity["passed"] is True


def test_an_engine_needs_the_operators(fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = fixtures.artifact(TASK, MODEL, weights="int8", ops="portable")
    with pytest.raises(UsageError, match="exported with --ops portable, so its operators"):
        to_tensorrt(artifact.path, tmp_path / "engine", flavor="rtx")
    assert not (tmp_path / "engine").exists()
