"""`Reformer` of reformer-pytorch, which takes vectors: exported, verified, and run everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from reformer_export import import_checkpoint, open_runner, to_aoti, to_onnx, to_torchscript
from reformer_export.artifact import Artifact
from reformer_export.cli.main import main
from reformer_export.errors import UsageError
from reformer_export.source import load_original
from reformer_models.errors import ConfigError

from ..tools.lucidrains import BUCKET, VECTORS, build, inject, inputs, save

# With rotations of each head the package can be given those of the artifact.
ARGUMENTS: Mapping[str, object] = {**VECTORS, "random_rotations_per_head": True}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("package") / "model", build(ARGUMENTS), ARGUMENTS)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return to_onnx(checkpoint, tmp_path_factory.mktemp("artifacts") / "encoder")


def passed(artifact: Artifact, name: str) -> bool:
    record = artifact.parity(name)
    assert record is not None
    return bool(record["passed"])


def test_an_export_is_verified_and_describes_itself(exported: Artifact) -> None:
    assert passed(exported, "onnx")
    manifest = exported.manifest
    assert (manifest.task, manifest.architecture) == ("series-encoding", "ReformerSeriesEncoder")
    assert manifest.source.library == "lucidrains"
    assert [str(spec) for spec in (*exported.signature.inputs, *exported.signature.outputs)] == [
        "series: float32 [batch, sequence, 32]",
        "last_hidden_state: float32 [batch, sequence, 32]",
    ]
    assert exported.signature.max_length == 8 * BUCKET
    assert json.loads((exported.path / "reformer_pytorch.json").read_text())["class"] == "Reformer"


def test_onnx_runtime_gives_the_numbers_of_the_package(
    exported: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(ARGUMENTS)
    series = inputs(model, 8)
    feeds = {"series": series.numpy()}
    found = [open_runner(exported, ops=ops).run(feeds) for ops in ("native", "portable")]
    inject(load_original(exported.manifest), monkeypatch, per_head=True)
    with torch.no_grad():
        expected = model(series).numpy()
    for outputs in found:
        difference = np.abs(outputs["last_hidden_state"] - expected).max()
        assert difference <= 1e-4 * np.abs(expected).max()


def test_every_format_takes_every_length(
    exported: Artifact, checkpoint: Path, tmp_path: Path
) -> None:
    script = to_torchscript(checkpoint, tmp_path / "script")
    assert passed(script, "torchscript")
    portable = to_onnx(checkpoint, tmp_path / "portable", ops="portable")
    assert passed(portable, "onnx")
    for length in (1, BUCKET, BUCKET + 1, 3 * BUCKET - 1, 8 * BUCKET):
        feeds = {"series": np.random.default_rng(0).standard_normal((2, length, 32), np.float32)}
        expected = open_runner(exported).run(feeds)["last_hidden_state"]
        assert expected.shape == (2, length, 32)
        for artifact in (script, portable):
            found = open_runner(artifact).run(feeds)["last_hidden_state"]
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"causal": True, "num_mem_kv": BUCKET},
        {"n_local_attn_heads": 1},
        {"use_full_attn": True},
        {"use_rezero": True, "ff_glu": True},
    ],
    ids=str,
)
def test_options_in_all_formats(tmp_path: Path, options: Mapping[str, object]) -> None:
    arguments = {**ARGUMENTS, **options}
    folder = save(tmp_path / "model", build(arguments), arguments)
    assert passed(to_onnx(folder, tmp_path / "onnx"), "onnx")
    assert passed(to_onnx(folder, tmp_path / "fp16", dtype="fp16"), "onnx")
    assert passed(to_onnx(folder, tmp_path / "portable", ops="portable"), "onnx")
    assert passed(to_torchscript(folder, tmp_path / "script"), "torchscript")
    assert passed(to_aoti(folder, tmp_path / "aoti"), "aoti")


def test_the_command_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, series = tmp_path / "artifact", tmp_path / "series.npy"
    np.save(series, np.zeros((20, 32)))
    given = ["-m", checkpoint, artifact, "--task", "series-encoding", "--no-verify"]
    assert main(["to-onnx", *map(str, given)]) == 0
    assert main(["run", str(artifact), "--series", str(series)]) == 0
    printed = capsys.readouterr()
    assert "is read as a Reformer of reformer-pytorch" in printed.err
    assert "output   last_hidden_state: float32 [1, 20, 32]" in printed.out


def test_what_is_for_models_of_tokens_is_refused(
    exported: Artifact, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="this is for models of tokens"):
        import_checkpoint(checkpoint, tmp_path / "imported")
    with pytest.raises(ConfigError, match="weights of fewer bits are for models of tokens"):
        to_onnx(checkpoint, tmp_path / "int8", weights="int8")
    with pytest.raises(UsageError, match="is for models of tokens, and this model takes series"):
        to_onnx(checkpoint, tmp_path / "kernels", cuda=["sm90"])
    assert main(["to-tensorrt", str(exported.path), str(tmp_path / "engine")]) == 2
    assert "is for models of tokens, and this model takes series" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
