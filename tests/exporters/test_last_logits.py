"""`--logits last`: only the logits of each row's last token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from reformer_export import open_runner, to_aoti, to_onnx, to_torchscript, verify_artifact
from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import TensorSpec
from reformer_export.errors import ReformerError, UsageError
from reformer_export.inference.running import top_predictions

from ..cli.invocation import child
from ..models.reformers import token_ids
from ..runtimes.programs import in_cpp
from ..tools.model_fixtures import Fixtures

TASK = "text-generation"


@pytest.fixture
def artifact(fixtures: Fixtures) -> Artifact:
    return fixtures.artifact(TASK, logits="last")


def ragged(length: int) -> np.ndarray:
    """Masks `[3, length]`: all tokens, padding at the end, holes and padding."""
    mask = np.ones((3, length), np.int64)
    mask[1, length // 2 + 1 :] = 0
    mask[2, ::2] = 0
    mask[2, length - length // 4 :] = 0
    return mask


def last_of(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    last = [np.flatnonzero(row)[-1] if row.any() else 0 for row in mask]
    return logits[np.arange(len(mask)), last][:, None]


def wanted_of(fixtures: Fixtures, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        model = fixtures.model(TASK)
        logits = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
    return last_of(logits.numpy(), mask)


def test_the_signature_says_so(artifact: Artifact) -> None:
    assert artifact.signature.last_logits
    assert artifact.signature.outputs == (TensorSpec("logits", "float32", ("batch", 1, 40)),)
    (output,) = onnx.load(artifact.format_path("onnx")).graph.output
    dims = [dim.dim_param or dim.dim_value for dim in output.type.tensor_type.shape.dim]
    assert dims == ["batch", 1, 40]


@pytest.mark.slow
def test_all_logits_are_what_it_is_without(fixtures: Fixtures) -> None:
    assert not fixtures.artifact(TASK).signature.last_logits
    assert not fixtures.artifact("text-classification").signature.last_logits


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_numbers(fixtures: Fixtures, artifact: Artifact, ops: Any) -> None:
    runner = open_runner(artifact, ops=ops)
    for length in (1, 4, 5, 12, 23, 50):
        ids, mask = token_ids(3, length, 40, seed=length).numpy(), ragged(length)
        found = runner.run({"input_ids": ids, "attention_mask": mask})["logits"]
        assert found.shape == (3, 1, 40)
        kept = mask.any(axis=1)  # other rows have only padding, and their numbers have no meaning
        wanted = wanted_of(fixtures, ids, mask)
        np.testing.assert_allclose(found[kept], wanted[kept], rtol=0, atol=3e-5)


def test_nothing_of_other_tokens_reaches_the_norm(artifact: Artifact) -> None:
    """The last tokens are selected before the norm, which saves memory."""
    nodes = onnx.load(artifact.format_path("onnx")).graph.node
    names = [node.name for node in nodes]
    gathered = [i for i, node in enumerate(nodes) if node.op_type == "GatherElements"]
    norm = next(i for i, name in enumerate(names) if "encoder.layer_norm/" in name)
    assert len(gathered) >= 2
    assert max(gathered) < norm


def test_every_export_is_verified(artifact: Artifact) -> None:
    report = verify_artifact(artifact.path, lengths=(5, 30), batches=(1, 3))
    assert report.passed
    assert "transformers" in report.references


def test_predictions(artifact: Artifact, tmp_path: Path) -> None:
    ids = token_ids(1, 23, 40).numpy()
    np.save(tmp_path / "ids.npy", ids)
    arguments = ("--input-ids", tmp_path / "ids.npy", "--json")
    done = child("run", artifact.path, *arguments, capture_output=True)
    assert done.returncode == 0, done.stderr
    python = json.loads(done.stdout)["predictions"]
    printed = in_cpp(artifact.path, *arguments).document
    assert [each["index"] for each in printed["predictions"]] == [each["index"] for each in python]
    assert [each["position"] for each in printed["predictions"]] == [22]
    assert [each["position"] for each in python] == [22]


def test_top_predictions_of_one_position() -> None:
    logits = np.array([[[0.0, 3.0, 1.0]], [[5.0, 3.0, 1.0]], [[0.0, 3.0, 9.0]]])
    mask = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]])
    found = [(each.position, each.index) for each in top_predictions({"logits": logits}, mask)]
    assert found == [(2, 1), (1, 0), (0, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("export", [to_torchscript, to_aoti])
def test_other_formats(fixtures: Fixtures, tmp_path: Path, export: Any) -> None:
    made = export(fixtures.checkpoint(TASK), tmp_path / "out", task=TASK, logits="last")
    assert made.signature.last_logits
    ids, mask = token_ids(3, 23, 40).numpy(), ragged(23)
    found = open_runner(made).run({"input_ids": ids, "attention_mask": mask})["logits"]
    np.testing.assert_allclose(found, wanted_of(fixtures, ids, mask), rtol=0, atol=3e-5)


def test_who_cannot(fixtures: Fixtures, artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ReformerError, match="last token alone are for text-generation; the task"):
        to_onnx(fixtures.checkpoint("fill-mask"), tmp_path / "out", task="fill-mask", logits="last")
    with pytest.raises(UsageError, match="unknown logits 'first': choose all or last"):
        to_onnx(fixtures.checkpoint(TASK), tmp_path / "out", logits="first")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ReformerError, match="choice of --logits"):
        to_torchscript(fixtures.checkpoint(TASK), artifact.path, task=TASK)
