"""The C++ runtime with libtorch: model.pt next to model.onnx, with and without our operators."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import reformer_ops.torch_ops  # noqa: F401  (registers torch.ops.reformer)
from reformer_export.artifact.manifest import FormatRecord, record_files, write_manifest
from reformer_ops import library_path

from ..tools.artifact_fixtures import edit_manifest, make_artifact, manifest
from .programs import built, environment

pytestmark = pytest.mark.slow

HEADS, DIM, VOCABULARY = 2, 8, 256


class NextToken(torch.nn.Module):
    """The model of `artifact_fixtures`: it predicts each id plus 1, and zeros where masked."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        following = torch.nn.functional.one_hot((input_ids + 1) % 256, 256)
        return {"logits": (following * attention_mask.unsqueeze(-1)).float()}


class Attending(torch.nn.Module):
    """One of our operators, on an embedding of the ids."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(VOCABULARY, HEADS * DIM)
        self.out = torch.nn.Linear(HEADS * DIM, VOCABULARY)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        rows = self.table(input_ids)
        x = rows.reshape(rows.shape[0], rows.shape[1], 2, 8)
        y = torch.ops.reformer.chunk_attention(x, x, x, attention_mask != 0, 4, 1, 0, True)
        return {"logits": self.out(y.reshape(rows.shape))}


def with_model(folder: Path, model: torch.nn.Module, ops: str) -> Path:
    """A small artifact that also holds TorchScript."""
    make_artifact(folder)
    torch.jit.script(model.eval()).save(str(folder / "model.pt"))
    made = manifest(record_files(folder))
    made = dataclasses.replace(
        made,
        ops=dataclasses.replace(made.ops, versions={"ChunkAttention": 1}),
        formats={**made.formats, "torchscript": FormatRecord(("model.pt",), ops, {})},
    )
    write_manifest(folder, made)
    return folder


@pytest.fixture(scope="module")
def program() -> Path:
    """reformer-run, built with the libtorch of this Python's torch."""
    built()
    return built("--torch") / "reformer-run"


def run(
    program: Path, folder: Path, *arguments: object, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), str(folder), *map(str, arguments)],
        env=os.environ | environment() | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (1, 64)])
def test_the_numbers_of_python(program: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ids = np.random.default_rng(size).integers(0, VOCABULARY, size)
    np.save(tmp_path / "ids.npy", ids)
    arguments = ["--input-ids", tmp_path / "ids.npy", "--output", tmp_path / "out.npz"]
    arguments += ["--runtime", "torchscript", "--threads", 1, "--json"]
    for model, ops in ((NextToken(), "portable"), (Attending(), "native")):
        if ops == "native" and size[1] % 4:
            continue  # the operator itself takes only whole chunks
        folder = with_model(tmp_path / ops, model, ops)
        done = run(program, folder, *arguments)
        assert done.returncode == 0, done.stderr
        printed = json.loads(done.stdout)
        assert printed["runtime"] == "torchscript"
        assert printed["description"].startswith(
            f"torch {torch.__version__.split('+')[0]}, 1 threads, "
        )
        assert f"{ops} operators" in printed["description"]
        with torch.inference_mode():
            tokens = torch.from_numpy(ids)
            expected = model(tokens, torch.ones_like(tokens))["logits"].numpy()
        with np.load(tmp_path / "out.npz") as saved:
            np.testing.assert_allclose(saved["logits"], expected, rtol=1e-5, atol=1e-6)


def test_what_cannot_be(program: Path, tmp_path: Path) -> None:
    portable = with_model(tmp_path / "portable", NextToken(), "portable")
    native = with_model(tmp_path / "native", Attending(), "native")
    plain = make_artifact(tmp_path / "plain")
    arguments = ("--text", "abcd", "--runtime", "torchscript")
    for folder, ops, code, said in (
        (
            plain,
            "auto",
            2,
            "holds no torchscript, but onnx: choose another runtime, or add it with",
        ),
        (portable, "native", 2, "it was exported with --ops portable; export with to-torchscript"),
        (native, "portable", 2, "needs the library of our operators: export with"),
    ):
        done = run(program, folder, *arguments, "--ops", ops)
        assert done.returncode == code
        assert said in done.stderr
    done = run(program, native, *arguments, REFORMER_OPS_LIBRARY_DIR=str(tmp_path))
    assert done.returncode == 1
    assert f"there is no libreformer_ops_torch.so in {tmp_path}" in done.stderr
    assert library_path("torch").is_file()


def test_the_fastest_that_works_here_runs(program: Path, tmp_path: Path) -> None:
    folder = with_model(tmp_path / "both", NextToken(), "portable")
    arguments = ("--text", "abcd", "--json")
    assert json.loads(run(program, folder, *arguments).stdout)["runtime"] == "onnxruntime"
    printed = json.loads(run(program, folder, *arguments, REFORMER_ONNXRUNTIME="/nowhere").stdout)
    assert printed["runtime"] == "torchscript"
    assert any(
        "torchscript runs, since REFORMER_ONNXRUNTIME names /nowhere" in n for n in printed["notes"]
    )


def test_a_file_that_is_no_model(program: Path, tmp_path: Path) -> None:
    folder = with_model(tmp_path / "both", NextToken(), "portable")
    (folder / "model.pt").write_bytes(b"no model")
    files = {n: {"sha256": r.sha256, "bytes": r.bytes} for n, r in record_files(folder).items()}
    edit_manifest(folder, files=files)
    done = run(program, folder, "--text", "abcd", "--runtime", "torchscript")
    assert done.returncode == 1
    assert "cannot load" in done.stderr
