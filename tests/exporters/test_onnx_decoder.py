"""The graphs for generation: names, weights, and a run in plain ONNX Runtime."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from reformer_export import to_onnx
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    DECODER,
    DECODER_FILES,
    DECODER_WEIGHTS,
    record_files,
    write_manifest,
)
from reformer_export.errors import ArtifactError, UsageError
from reformer_models.layers.decoding import ORDER_BLOCK
from reformer_ops.registry import OPS, STEPS

from ..models.reformers import SMALL
from ..tools.model_fixtures import Fixtures

STEPS_BY_NAME = {op.name for op in STEPS}


@pytest.fixture
def artifact(fixtures: Fixtures) -> Artifact:
    return fixtures.decoder()


def axes(values: Any) -> dict[str, list[str | int]]:
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in values
    }


def test_names_and_axes(artifact: Artifact) -> None:
    prefill, step = (onnx.load(artifact.path / name).graph for name in DECODER_FILES)
    assert axes(prefill.input) == {"input_ids": ["batch", "sequence"]}
    head = ["batch", "capacity", 2, 6]
    rounds = ["batch", 2, 2]
    integers = {
        "buckets": [*rounds, "capacity"],
        "order": [*rounds, "blocks", ORDER_BLOCK],
        "starts": [*rounds, "blocks"],
    }
    window = ["batch", 8, 2, 6]
    assert axes(step.input) == {
        "input_ids": ["batch", 1],
        "past_length": ["batch"],
        "prompt_length": ["batch"],
        **{f"past_{kind}.{i}": window for i in (0, 2) for kind in ("key", "value")},
        **{f"past_{kind}.{i}": head for i in (1, 3) for kind in ("key", "value")},
        **{f"past_{kind}.{i}": found for i in (1, 3) for kind, found in integers.items()},
    }
    presents = {
        name.replace("past_", "present_"): found
        for name, found in axes(step.input).items()
        if "." in name
    }
    assert axes(step.output) == {"logits": ["batch", 1, 40], **presents}
    of_prompt = {
        name: ["sequence" if axis == "capacity" else axis for axis in found]
        for name, found in axes(step.output).items()
    }
    assert axes(prefill.output) == of_prompt


def test_both_graphs_share_their_weights(artifact: Artifact) -> None:
    external = []
    for name in DECODER_FILES:
        graph = onnx.load(artifact.path / name, load_external_data=False).graph
        places = [{e.key: e.value for e in t.external_data} for t in graph.initializer]
        places = [place for place in places if place]
        assert {place["location"] for place in places} == {DECODER_WEIGHTS}
        external.append({place["offset"] for place in places})
    # Neither graph has an external weight of its own.
    assert external[0] == external[1]
    assert len(external[0]) >= 2  # the other weights are small and are in the graphs
    size = (artifact.path / DECODER_WEIGHTS).stat().st_size
    assert size < (artifact.path / "model.onnx").stat().st_size


def test_our_operators_are_nodes_with_bodies(artifact: Artifact) -> None:
    prefill, step = (onnx.load(artifact.path / name) for name in DECODER_FILES)
    for model, names in (
        (prefill, {op.name for op in OPS}),
        (step, {"LshBucket", *STEPS_BY_NAME}),
    ):
        ours = {node.op_type for node in model.graph.node if node.domain == "reformer"}
        assert ours == names == {body.name for body in model.functions}
        onnx.checker.check_model(model)


@pytest.mark.slow  # exports once more
def test_portable_has_standard_operators_alone(fixtures: Fixtures) -> None:
    portable = fixtures.decoder(ops="portable")
    for name in DECODER_FILES:
        model = onnx.load(portable.path / name)
        assert {node.domain for node in model.graph.node} == {""}
        assert not model.functions


def run(session: onnxruntime.InferenceSession, feeds: dict[str, Any]) -> dict[str, NDArray[Any]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_plain_onnxruntime_generates(artifact: Artifact) -> None:
    """As docs/generation.md explains it for users of ONNX Runtime alone.

    The last of four tokens gets the same logits from steps as at the end of a prompt of four,
    because in such a short sequence every token attends to all earlier ones.
    """
    prefill, step = (onnxruntime.InferenceSession(artifact.path / name) for name in DECODER_FILES)
    ids = np.array([[3, 1, 4, 1], [9, 2, 6, 5]])
    wanted = run(prefill, {"input_ids": ids})["logits"]
    found = run(prefill, {"input_ids": ids[:, :2]})
    del found["logits"]
    past = {}
    shapes = {each.name: each.shape for each in prefill.get_outputs()}
    for name, value in found.items():
        sizes = [
            7 if axis == "sequence" else n
            for n, axis in zip(value.shape, shapes[name], strict=True)
        ]
        room = np.zeros(sizes, value.dtype)
        room[tuple(slice(size) for size in value.shape)] = value
        past[name.replace("present_", "past_")] = room
    for position in (2, 3):
        feeds = {
            "input_ids": ids[:, position : position + 1],
            "past_length": np.full(2, position),
            "prompt_length": np.full(2, 2),
        }
        found = run(step, {**feeds, **past})
        logits = found.pop("logits")
        past = {name.replace("present_", "past_"): value for name, value in found.items()}
    np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_the_record_names_files_and_operators(artifact: Artifact) -> None:
    record = artifact.manifest.formats[DECODER]
    assert record.files == (*DECODER_FILES, DECODER_WEIGHTS)
    assert record.details["ops"] == {op.name: op.version for op in STEPS}
    assert record.details["opset"] == 18
    assert artifact.manifest.task == "text-generation"


def test_other_tasks_have_no_decoder(fixtures: Fixtures, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="text-generation needs a causal model"):
        to_onnx(
            fixtures.checkpoint("fill-mask"),
            tmp_path / "out",
            task="text-generation-with-past",
            verify=False,
        )
    assert not (tmp_path / "out").exists()


def test_bf16_is_refused(fixtures: Fixtures, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp32 or fp16, not bf16"):
        to_onnx(
            fixtures.checkpoint(), tmp_path / "out", task="text-generation-with-past", dtype="bf16"
        )


def test_hostile_external_data_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    for name in DECODER_FILES:
        copy = tmp_path / name
        shutil.copytree(artifact.path, copy)
        model = onnx.load(copy / name, load_external_data=False)
        tensor = next(t for t in model.graph.initializer if t.external_data)
        next(e for e in tensor.external_data if e.key == "location").value = "../../secret"
        (copy / name).write_bytes(model.SerializeToString())
        write_manifest(copy, dataclasses.replace(artifact.manifest, files=record_files(copy)))
        with pytest.raises(ArtifactError, match="secret"):
            Artifact.open(copy)


def test_small_fits_the_numbers_above() -> None:
    assert (SMALL["local_attn_chunk_length"], SMALL["vocab_size"]) == (4, 40)
