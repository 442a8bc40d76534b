"""Models for time series: exported, verified, run, and refused where only tokens make sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from reformer_export import (
    import_checkpoint,
    open_generator,
    open_runner,
    to_aoti,
    to_onnx,
    to_torchscript,
    verify_artifact,
)
from reformer_export.artifact import Artifact
from reformer_export.cli.main import main
from reformer_export.errors import InputError, UsageError
from reformer_export.source import load_original
from reformer_models.checkpoints.sources.time_series_library import CONFIG_FILE, Arguments
from reformer_models.errors import ConfigError
from reformer_ops.core.native import Choice

from ..tools.time_series_library import SMALL, arguments, build, example, inject, save


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("library"), build(SMALL))


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return to_onnx(checkpoint, tmp_path_factory.mktemp("artifacts") / "forecast")


def passed(artifact: Artifact, name: str) -> bool:
    record = artifact.parity(name)
    assert record is not None
    assert record["decisions"] > 0
    return bool(record["passed"])


def test_an_export_is_verified_and_describes_itself(exported: Artifact) -> None:
    assert passed(exported, "onnx")
    manifest = exported.manifest
    assert (manifest.task, manifest.architecture) == ("time-series", "TimeSeriesReformer")
    assert manifest.source.library == "time-series-library"
    assert [str(spec) for spec in (*exported.signature.inputs, *exported.signature.outputs)] == [
        "series: float32 [batch, sequence, 3]",
        "time_features: float32 [batch, sequence + 12, 4]",
        "forecast: float32 [batch, 12, 2]",
    ]
    assert exported.signature.max_length == 4988
    assert json.loads((exported.path / CONFIG_FILE).read_text())["model"] == "Reformer"
    record = exported.parity("onnx")
    assert record is not None
    assert record["notes"] == [
        "transformers has no Reformer for time series, which this model needs: compared with our "
        "model only"
    ]


def test_onnx_runtime_gives_the_numbers_of_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library draws one rotation for all heads, so the artifact is of a model with one head."""
    given = arguments(n_heads=1)
    model = build(given)
    artifact = to_onnx(save(tmp_path / "one-head", model), tmp_path / "out", verify=False)
    series, times = example(given, 24)
    feeds = {"series": series.numpy(), "time_features": times.numpy()}
    choices: tuple[Choice, ...] = ("native", "portable")
    found = [open_runner(artifact, ops=ops).run(feeds)["forecast"] for ops in choices]
    loaded = load_original(artifact.manifest)
    inject(loaded, monkeypatch, rotations=loaded.rotations)
    with torch.no_grad():
        expected = model(series, times).numpy()
    for forecast in found:
        assert np.abs(forecast - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        arguments(task_name="short_term_forecast", c_out=3),
        arguments(task_name="imputation", embed="learned"),
    ],
    ids=["normalised", "reconstruction"],
)
def test_other_tasks_in_portable_operators(tmp_path: Path, given: Arguments) -> None:
    folder = save(tmp_path / "model", build(given))
    artifact = to_onnx(folder, tmp_path / "onnx", ops="portable")
    assert passed(artifact, "onnx")
    (output,) = artifact.signature.outputs
    assert output.axes == (("batch", 12, 3) if given.config.horizon else ("batch", "sequence", 2))


@pytest.mark.slow
def test_torchscript_beside_onnx(exported: Artifact, checkpoint: Path) -> None:
    artifact = to_torchscript(checkpoint, exported.path)
    assert artifact.formats == ("onnx", "torchscript")
    assert passed(artifact, "torchscript")
    assert verify_artifact(artifact.path, runtime="torchscript", lengths=[24]).passed


@pytest.mark.slow
def test_aoti_and_half_precision(checkpoint: Path, tmp_path: Path) -> None:
    assert passed(to_aoti(checkpoint, tmp_path / "aoti"), "aoti")
    assert passed(to_onnx(checkpoint, tmp_path / "fp16", dtype="fp16"), "onnx")
    assert passed(to_torchscript(checkpoint, tmp_path / "script", ops="portable"), "torchscript")


def test_a_maximum_length(checkpoint: Path, tmp_path: Path) -> None:
    artifact = to_onnx(checkpoint, tmp_path / "short", max_length=30, verify=False)
    runner = open_runner(artifact)
    series, times = (tensor.numpy() for tensor in example(SMALL, 31))
    with pytest.raises(InputError, match="series holds 31 steps; the model takes 1 to 30 steps"):
        runner.run({"series": series, "time_features": times})
    with pytest.raises(UsageError, match="--max-length 4989: this model takes 1 to 4988 steps"):
        to_onnx(checkpoint, tmp_path / "long", max_length=4989)


def saved(folder: Path) -> tuple[Path, Path]:
    """A series and its times in files."""
    series, times = (tensor[0].numpy() for tensor in example(SMALL, 24, batch=1))
    np.savetxt(folder / "series.csv", series, delimiter=",", header="a,b,c", comments="")
    np.save(folder / "times.npy", times)
    return folder / "series.csv", folder / "times.npy"


def test_run_reads_a_table(
    exported: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series, times = saved(tmp_path)
    output = tmp_path / "outputs.npz"
    command = ["run", exported.path, "--series", series, "--time-features", times]
    assert main([*map(str, command), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "input    1 x 24 steps" in printed
    assert "output   forecast: float32 [1, 12, 2]" in printed
    inputs = {
        "series": np.loadtxt(series, delimiter=",", skiprows=1)[None],
        "time_features": np.load(times)[None],
    }
    expected = open_runner(exported).run(inputs)["forecast"]
    np.testing.assert_array_equal(np.load(output)["forecast"], expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--text", "x"], "takes series of numbers: give --series"),
        (["--series", "{series}"], "time_features is missing"),
        (["--series", "{times}", "--time-features", "{times}"], "series has 4 channels"),
        (["--series", "{text}"], "does not hold a table of numbers"),
        (["--text", "x", "--time-features", "{times}"], "--time-features goes with --series"),
    ],
)
def test_wrong_inputs_of_run(
    exported: Artifact,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    series, times = saved(tmp_path)
    (tmp_path / "text.csv").write_text("a,b,c\n1,2,x\n")
    paths = {"series": series, "times": times, "text": tmp_path / "text.csv"}
    given = [argument.format(**paths) for argument in arguments]
    assert main(["run", str(exported.path), *given]) != 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "{artifact}", "--prompt", "x"],
        ["bench", "{artifact}"],
        ["to-web", "{artifact}", "{out}"],
        ["to-triton", "{artifact}", "{out}"],
        ["add-kernels", "{artifact}"],
        ["to-onnx", "-m", "{checkpoint}", "{out}", "--cuda", "sm90"],
        ["serve", "{artifact}"],
        ["to-tensorrt", "{artifact}", "{out}"],
        ["build-kernels", "{out}", "--artifact", "{artifact}", "--target", "sm90"],
    ],
    ids=lambda command: command[0],
)
def test_commands_for_tokens_refuse(
    exported: Artifact,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    paths = {"artifact": exported.path, "checkpoint": checkpoint, "out": tmp_path / "out"}
    assert main([part.format(**paths) for part in command]) == 2
    assert "is for models of tokens, and this model takes series" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_functions_for_tokens_refuse(exported: Artifact, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is for models of tokens"):
        import_checkpoint(checkpoint, tmp_path / "imported")
    assert not (tmp_path / "imported").exists()
    with pytest.raises(UsageError):
        open_generator(exported)
    with pytest.raises(ConfigError, match="weights of fewer bits are for models of tokens"):
        to_onnx(checkpoint, tmp_path / "int8", weights="int8")
