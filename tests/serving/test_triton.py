"""The model repository for Triton: its config is valid by Triton's schema, and its files run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import tritonclient
from google.protobuf import text_format

from reformer_export import open_runner, to_aoti, to_torchscript
from reformer_export.cli.main import main
from reformer_export.errors import UsageError
from reformer_export.serving.triton import to_triton

from ..tools.artifact_fixtures import make_artifact, snapshot
from ..tools.model_fixtures import Fixtures, feeds
from .served import SERVED


@pytest.fixture(scope="module")
def schema() -> Any:
    """tritonclient.grpc.model_config_pb2, without the rest of the package, which needs grpcio."""
    path = Path(tritonclient.__path__[0], "grpc/model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(schema: Any, model: Path) -> Any:
    """config.pbtxt, parsed by Triton's schema."""
    text = (model / "config.pbtxt").read_text()
    return text_format.Parse(text, schema.ModelConfig())


def test_onnx_with_our_library(fixtures: Fixtures, tmp_path: Path, schema: Any) -> None:
    artifact = fixtures.decoder(SERVED)
    made = to_triton(
        artifact.path, tmp_path / "repo", name="small", instances=3, threads=2, max_batch=5
    )
    assert (made.backend, made.operators) == ("onnxruntime", "native")
    found = config(schema, made.path)
    assert (found.name, found.backend, found.max_batch_size) == ("small", "onnxruntime", 5)
    assert [(i.name, i.data_type, list(i.dims)) for i in found.input] == [
        ("input_ids", schema.TYPE_INT64, [-1]),
        ("attention_mask", schema.TYPE_INT64, [-1]),
    ]
    assert [(o.name, o.data_type, list(o.dims)) for o in found.output] == [
        ("logits", schema.TYPE_FP32, [-1, 258])
    ]
    (group,) = found.instance_group
    assert (group.kind, group.count) == (schema.ModelInstanceGroup.KIND_CPU, 3)
    assert found.HasField("dynamic_batching")
    assert found.parameters["intra_op_thread_count"].string_value == "2"
    # As Triton's backend does it: the library of the config, then the file of the version.
    (library,) = found.model_operations.op_library_filename
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = found.parameters["enable_mem_pattern"].string_value == "1"
    options.register_custom_ops_library(library)
    session = onnxruntime.InferenceSession(made.path / "1/model.onnx", options)
    inputs = feeds(50, 3)
    (logits,) = session.run(["logits"], inputs)
    runner = open_runner(artifact)
    np.testing.assert_array_equal(logits, runner.run(inputs)["logits"])
    runner.close()


def test_where_the_server_sees_the_library(tmp_path: Path, schema: Any) -> None:
    artifact = make_artifact(tmp_path / "made", external=True)
    made = to_triton(artifact, tmp_path / "repo", seen_at="/models")
    found = config(schema, made.path)
    assert list(found.model_operations.op_library_filename) == [
        "/models/made/1/libreformer_ops_ort.so"
    ]
    assert sorted(snapshot(made.path)) == [
        "1/libreformer_ops_ort.so",
        "1/model.onnx",
        "1/model.onnx_data",
        "config.pbtxt",
    ]


@pytest.mark.parametrize("options", [{"ops": "portable"}, {"device": "cuda"}])
def test_without_the_library(tmp_path: Path, schema: Any, options: Any) -> None:
    made = to_triton(make_artifact(tmp_path / "made"), tmp_path / "repo", **options)
    assert (made.operators, made.library) == ("portable", None)
    found = config(schema, made.path)
    assert not found.HasField("model_operations")
    on_gpu = found.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    assert on_gpu is ("device" in options)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-generation", "question-answering"])
def test_torchscript(fixtures: Fixtures, tmp_path: Path, schema: Any, task: str) -> None:
    artifact = to_torchscript(
        fixtures.checkpoint(task), tmp_path / "script", task=task, ops="portable", verify=False
    )
    made = to_triton(artifact.path, tmp_path / "repo")
    found = config(schema, made.path)
    assert (made.backend, found.platform) == ("torchscript", "pytorch_libtorch")
    assert [each.name for each in found.input] == ["INPUT__0", "INPUT__1"]
    inputs = feeds(20, 2)
    outputs = torch.jit.load(made.path / "1/model.pt")(*map(torch.from_numpy, inputs.values()))
    outputs = [outputs] if torch.is_tensor(outputs) else outputs
    assert isinstance(outputs, tuple | list)
    wanted = open_runner(artifact).run(inputs)
    assert [each.name for each in found.output] == [f"OUTPUT__{i}" for i in range(len(wanted))]
    for output, (_, array) in zip(outputs, wanted.items(), strict=True):
        np.testing.assert_allclose(output.numpy(), array, atol=1e-6)


@pytest.mark.slow
def test_aoti(fixtures: Fixtures, tmp_path: Path, schema: Any) -> None:
    checkpoint = fixtures.checkpoint("text-generation")
    artifact = to_aoti(checkpoint, tmp_path / "package", ops="portable", verify=False)
    made = to_triton(artifact.path, tmp_path / "repo")
    found = config(schema, made.path)
    assert (made.backend, found.platform) == ("aoti", "torch_aoti")
    # Triton names the outputs by position; the buckets that follow are not asked for.
    inputs = feeds(20, 2)
    model = torch._inductor.aoti_load_package(str(made.path / "1/model.pt2"))
    outputs = model(*map(torch.from_numpy, inputs.values()))
    assert [each.name for each in found.input] == ["INPUT__0", "INPUT__1"]
    assert [each.name for each in found.output] == ["OUTPUT__0"]
    wanted = open_runner(artifact).run(inputs)["logits"]
    np.testing.assert_array_equal(outputs[0].numpy(), wanted)


def test_what_is_refused(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "made")
    repository = tmp_path / "repo"
    for options, said in (
        ({"name": "../x"}, "use letters"),
        ({"backend": "aoti"}, "holds no aoti, but onnx"),
        ({"backend": "x"}, "unknown backend"),
        ({"device": "cuda", "ops": "native"}, "Triton cannot set"),
    ):
        with pytest.raises(UsageError, match=said):
            to_triton(artifact, repository, **options)
    assert not repository.exists()
    to_triton(artifact, repository)
    before = snapshot(repository)
    with pytest.raises(UsageError, match="exists: choose another --name"):
        to_triton(artifact, repository)
    assert snapshot(repository) == before


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = make_artifact(tmp_path / "made")
    assert main(["to-triton", str(artifact), str(tmp_path / "repo"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(tmp_path / "repo/made")
    assert document["backend"] == "onnxruntime"
