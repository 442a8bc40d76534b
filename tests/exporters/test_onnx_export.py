"""`model.onnx` gives Transformers' numbers in plain onnxruntime, with all options of the export."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from reformer_export import to_onnx
from reformer_export.errors import UsageError
from reformer_export.exporters.base import ExportOptions
from reformer_export.exporters.onnx import export as exporter
from reformer_export.exporters.onnx.export import OPSETS, OnnxOptions
from reformer_export.runtimes import open_runner

from ..models.reformers import SMALL, theirs
from ..tools.model_fixtures import CONFIGS, TINY, Feeds, Fixtures, feeds, outputs_of, worst_error

LONGEST = 120  # of 128 positions: 121 tokens or more would be padded beyond them
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-2}
SIZES = ((1, 1), (5, 3), (13, 1), (31, 3), (LONGEST, 1))


def session(path: Path, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    )
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(opened: onnxruntime.InferenceSession, inputs: Feeds) -> Feeds:
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(None, inputs), strict=True))


def error_of(found: Feeds, expected: Feeds, dtype: str) -> float:
    """The largest relative difference for fp32, the median for fp16.

    In fp16 a query sometimes falls into another bucket than in fp32, and then attends to other
    keys. `verify` checks that such queries are few, and that their decisions were close.
    """
    return worst_error(found, expected, share=0.5 if dtype == "fp16" else 1.0)


def rounded(model: Any) -> Any:
    """A copy of the model whose weights are rounded to fp16."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.copy_(parameter.half())
    return result


def _task_cases() -> list[Any]:
    """Every task in four ways. Each commit runs every task in one way, and one task in two."""
    ways = [("fp32", "auto"), ("fp16", "portable"), ("fp32", "portable"), ("fp16", "auto")]
    often = {("text-generation", *ways[1]), *((task, *ways[0]) for task in CONFIGS)}
    cases = [(task, *way) for task in CONFIGS for way in ways]
    return [pytest.param(*case, marks=() if case in often else pytest.mark.slow) for case in cases]


@pytest.mark.parametrize(("task", "dtype", "ops"), _task_cases())
def test_every_task(fixtures: Fixtures, task: str, dtype: str, ops: str) -> None:
    model = fixtures.model(task)
    artifact = fixtures.artifact(task, dtype=dtype, ops=ops)
    onnx.checker.check_model(str(artifact.format_path("onnx")), full_check=True)
    reference = rounded(model) if dtype == "fp16" else model
    for optimised in (False, True):
        opened = session(artifact.format_path("onnx"), optimised=optimised)
        for length, batch in SIZES:
            inputs = feeds(length, batch, vocab_size=model.config.vocab_size)
            found = run(opened, inputs)
            error = error_of(found, outputs_of(reference, inputs), dtype)
            assert error <= TOLERANCE[dtype], (length, batch)
            assert {array.dtype.name for array in found.values()} == {
                "float16" if dtype == "fp16" else "float32"
            }


def test_every_length_up_to_three_chunks(fixtures: Fixtures) -> None:
    """Alone and beside shorter ones: the graph itself computes whether and how far to pad."""
    model = fixtures.model()
    artifacts = [fixtures.artifact(ops=ops) for ops in ("auto", "portable")]
    opened = [session(artifact.format_path("onnx")) for artifact in artifacts]
    for length in range(1, 3 * 12 + 1):  # 12: the least common multiple of both chunk lengths
        for inputs in (feeds(length, 1), feeds(length, 3)):
            expected = outputs_of(model, inputs)
            for either in opened:
                assert worst_error(run(either, inputs), expected) <= TOLERANCE["fp32"]


@pytest.mark.parametrize("ops", ["auto", "portable"])
def test_masks_with_holes_and_without_any_token(fixtures: Fixtures, ops: str) -> None:
    model = fixtures.model()
    opened = session(fixtures.artifact(ops=ops).format_path("onnx"))
    rng = np.random.default_rng(0)
    for length in (1, 4, 11, 24, 29):
        inputs = feeds(length, 3)
        mask = (rng.random((3, length)) < 0.6).astype(np.int64)
        mask[2] = 0
        inputs["attention_mask"] = mask
        assert worst_error(run(opened, inputs), outputs_of(model, inputs)) <= TOLERANCE["fp32"]


def test_the_longest_sequence(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact()
    assert artifact.signature.max_length == LONGEST
    inputs = feeds(LONGEST, 3)
    found = run(session(artifact.format_path("onnx")), inputs)
    assert worst_error(found, outputs_of(fixtures.model(), inputs)) <= TOLERANCE["fp32"]


def _opset_cases() -> list[Any]:
    """Every opset in two ways. Each commit runs the first and the last opset, each in one way."""
    ways = (("fp16", "auto"), ("fp32", "portable"))
    often = {(OPSETS[0], *ways[0]), (OPSETS[-1], *ways[1])}
    cases = [(n, dtype, ops) for n in OPSETS for dtype, ops in ways]
    return [pytest.param(*case, marks=() if case in often else pytest.mark.slow) for case in cases]


@pytest.mark.parametrize(("opset", "dtype", "ops"), _opset_cases())
def test_every_opset(fixtures: Fixtures, opset: int, dtype: str, ops: str) -> None:
    task = "text-classification"
    artifact = fixtures.artifact(task, opset=opset, dtype=dtype, ops=ops)
    model = onnx.load(artifact.format_path("onnx"))
    onnx.checker.check_model(model, full_check=True)
    imported = {(item.domain, item.version) for item in model.opset_import}
    assert imported == ({("", opset)} if ops == "portable" else {("", opset), ("reformer", 1)})
    assert artifact.manifest.formats["onnx"].details == {"opset": opset}
    for body in model.functions:
        assert [(item.domain, item.version) for item in body.opset_import] == [("", opset)]
    reference = fixtures.model(task)
    if dtype == "fp16":
        reference = rounded(reference)
    for optimised in (False, True):
        opened = session(artifact.format_path("onnx"), optimised=optimised)
        inputs = feeds(29, 3, vocab_size=258)
        error = error_of(run(opened, inputs), outputs_of(reference, inputs), dtype)
        assert error <= TOLERANCE[dtype]


@pytest.mark.parametrize("opset", [OPSETS[0] - 1, OPSETS[-1] + 1])
def test_other_opsets_are_refused(opset: int) -> None:
    with pytest.raises(UsageError, match=f"opset {opset}: choose 18 to 23"):
        OnnxOptions(opset=opset)


def test_external_data(fixtures: Fixtures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inside, outside = fixtures.artifact(), fixtures.artifact(external_data=True)
    assert outside.file("model.onnx_data") is not None
    assert outside.format_path("onnx").stat().st_size < inside.format_path("onnx").stat().st_size
    onnx.checker.check_model(str(outside.format_path("onnx")), full_check=True)
    assert outside.signature == inside.signature
    inputs = feeds(29, 3)
    expected = run(session(inside.format_path("onnx")), inputs)
    monkeypatch.chdir(tmp_path)  # the data must be found beside the model
    for optimised in (False, True):
        found = run(session(outside.format_path("onnx"), optimised=optimised), inputs)
        assert worst_error(found, expected) <= TOLERANCE["fp32"]


def test_what_is_too_large_for_one_file_gets_two(
    fixtures: Fixtures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(exporter, "_LARGEST_FILE", 1000)
    artifact = to_onnx(fixtures.checkpoint("fill-mask"), tmp_path / "out", verify=False)
    assert artifact.file("model.onnx_data") is not None
    assert session(artifact.format_path("onnx"))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"attn_layers": ["local"], "num_buckets": None}, id="no-hashing"),
        pytest.param({"local_attn_chunk_length": 1, "lsh_attn_chunk_length": 1}, id="chunks-of-1"),
        pytest.param({"axial_pos_embds": False, "max_position_embeddings": 1}, id="one-position"),
        pytest.param(
            {"attn_layers": ["lsh"], "num_hashes": 1, "num_buckets": 2, "lsh_num_chunks_before": 9},
            id="wide-look",
        ),
    ],
)
def test_extremes(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    model = theirs("text-generation", **SMALL | changes)
    model.save_pretrained(tmp_path / "checkpoint")
    artifact = to_onnx(tmp_path / "checkpoint", tmp_path / "out", verify=False)
    opened = session(artifact.format_path("onnx"))
    for length in {1, 2, 7, 29} & set(range(1, artifact.signature.max_length + 1)):
        inputs = feeds(length, 3)
        assert worst_error(run(opened, inputs), outputs_of(model, inputs)) <= TOLERANCE["fp32"]


def test_a_shorter_maximum_changes_what_is_said_alone(fixtures: Fixtures, tmp_path: Path) -> None:
    whole = fixtures.artifact("fill-mask")
    cut = to_onnx(fixtures.checkpoint("fill-mask"), tmp_path / "out", max_length=1, verify=False)
    assert cut.signature.max_length == 1
    assert undescribed(cut.format_path("onnx")) == undescribed(whole.format_path("onnx"))


def undescribed(path: Path) -> onnx.ModelProto:
    """A model without its metadata and its descriptions for people."""
    model = onnx.load(path)
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    for value in model.graph.input:
        value.ClearField("doc_string")
    return model


def test_a_maximum_the_model_does_not_have(fixtures: Fixtures, tmp_path: Path) -> None:
    said = f"--max-length {LONGEST + 1}: this model takes 1 to {LONGEST} tokens"
    with pytest.raises(UsageError, match=said):
        to_onnx(fixtures.checkpoint(), tmp_path / "out", max_length=LONGEST + 1, verify=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "int8"}, "cannot export int8: it is unknown; choose fp32 or fp16 or bf16"),
        ({"cuda": ["sm91"]}, "unknown target sm91: choose one of sm75, sm80"),
        ({"cuda": ["sm90"], "ops": "portable"}, "--ops portable leaves none: give one of them"),
        ({"max_length": 0}, "--max-length 0: a sequence has at least one token"),
        ({"ops": "fast"}, "unknown ops 'fast': choose one of auto, portable"),
    ],
)
def test_options_without_a_meaning(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        OnnxOptions(**options)


def test_bf16_is_for_onnx_alone() -> None:
    with pytest.raises(UsageError, match="bf16: that is for to-onnx alone; choose fp32 or fp16"):
        ExportOptions(dtype="bf16")


def test_a_model_in_bf16(fixtures: Fixtures, tmp_path: Path) -> None:
    """bf16 is for GPUs. The CPU emulates it, in the verification too; outputs are fp32."""
    artifact = to_onnx(fixtures.checkpoint(), tmp_path / "out", dtype="bf16")
    record = artifact.parity("onnx")
    assert record is not None
    assert "bf16 emulated in fp32" in record["candidate"]
    graph = onnx.load(artifact.format_path("onnx")).graph
    kinds = {tensor.data_type for tensor in graph.initializer if tensor.name.endswith("weight")}
    assert kinds == {onnx.TensorProto.BFLOAT16}
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    runner = open_runner(artifact, threads=1)
    found = runner.run(feeds(29, 2))["logits"]
    assert found.dtype == np.float32
    with pytest.raises(UsageError, match="no CPU kernel takes bf16"):
        open_runner(artifact, ops="native")


def test_hashing_can_be_chosen(fixtures: Fixtures, tmp_path: Path) -> None:
    """Buckets and seed from options have the same effect as in the config of a checkpoint."""
    chosen = TINY | {"num_buckets": [2, 4], "hash_seed": 9}
    model = theirs("text-generation", **chosen)
    theirs("text-generation", **TINY).save_pretrained(tmp_path / "checkpoint")
    artifact = to_onnx(
        tmp_path / "checkpoint",
        tmp_path / "out",
        num_buckets=(2, 4),
        hash_seed=9,
        verify=False,
    )
    inputs = feeds(29, 3, vocab_size=258)
    found = run(session(artifact.format_path("onnx")), inputs)
    error = worst_error(found, outputs_of(model, inputs))
    assert error <= TOLERANCE["fp32"]
    assert artifact.manifest.hashing.num_buckets == (2, 4)
    assert artifact.manifest.hashing.hash_seed == 9
