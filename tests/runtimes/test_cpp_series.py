"""`reformer-run` and libreformer on a model of series."""

from __future__ import annotations

import ctypes
import shutil
from ctypes import byref, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np
import pytest

from reformer_export import open_runner, to_onnx
from reformer_export.artifact import Artifact

from ..tools import lucidrains
from ..tools.artifact_fixtures import edit_manifest
from ..tools.time_series_library import SMALL, arguments, build, example
from ..tools.time_series_library import save as save_checkpoint
from .programs import Tensor, both, both_refuse, environment, library, save

FLOAT32, INT64 = 11, 4
OK, USAGE, INPUT = 0, 1, 3


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = save_checkpoint(tmp_path_factory.mktemp("library"), build(SMALL))
    return to_onnx(folder, tmp_path_factory.mktemp("artifact") / "forecaster", verify=False)


def inputs(length: int, batch: int = 2) -> dict[str, np.ndarray]:
    series, times = example(SMALL, length, batch)
    return {"series": series.numpy(), "time_features": times.numpy()}


@pytest.mark.parametrize("length", [1, 24, 100])
def test_both_programs_give_the_same_bytes(
    forecaster: Artifact, tmp_path: Path, length: int
) -> None:
    found = both(tmp_path, forecaster.path, *save(tmp_path, inputs(length)))
    assert (found["batch"], found["length"], found["unit"]) == (2, length, "steps")
    assert found["outputs"] == {"forecast": {"dtype": "float32", "shape": [2, 12, 2]}}
    assert found["predictions"] == []


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2", "i4", "u1"])
def test_numbers_of_other_types_and_orders(
    forecaster: Artifact, tmp_path: Path, dtype: str
) -> None:
    given = inputs(24)
    given["series"] = np.asfortranarray(np.abs(given["series"]).round().astype(dtype))
    both(tmp_path, forecaster.path, *save(tmp_path, given))


def test_one_channel_in_one_axis(tmp_path: Path) -> None:
    given = arguments(task_name="anomaly_detection", enc_in=1, c_out=1)
    folder = save_checkpoint(tmp_path / "library", build(given))
    artifact = to_onnx(folder, tmp_path / "artifact", verify=False)
    np.save(tmp_path / "series.npy", np.arange(30.0))
    found = both(tmp_path, artifact.path, "--series", tmp_path / "series.npy")
    assert found["outputs"]["reconstruction"]["shape"] == [1, 30, 1]


def test_vectors_in_and_hidden_states_out(tmp_path: Path) -> None:
    folder = lucidrains.save(
        tmp_path / "package", lucidrains.build(lucidrains.VECTORS), lucidrains.VECTORS
    )
    artifact = to_onnx(folder, tmp_path / "artifact", verify=False)
    series = np.random.default_rng(0).standard_normal((2, 21, 32), np.float32)
    found = both(tmp_path, artifact.path, *save(tmp_path, {"series": series}))
    assert found["outputs"] == {"last_hidden_state": {"dtype": "float32", "shape": [2, 21, 32]}}


def test_both_refuse_what_the_model_does_not_take(forecaster: Artifact, tmp_path: Path) -> None:
    def refused(**changes: np.ndarray) -> str:
        return both_refuse(forecaster.path, *save(tmp_path, {**inputs(24), **changes}))

    assert "takes series of numbers: give --series" in both_refuse(forecaster.path, "--text", "x")
    assert "series has 1 channels" in refused(series=np.zeros((24, 1)))
    assert "series holds 0 steps" in refused(series=np.zeros((0, 3)))
    assert "must be real numbers, found bool" in refused(series=np.zeros((24, 3), bool))
    assert "series[0, 1, 2] is nan" in refused(series=np.array([[0, 0, 0], [0, 0, np.nan]]))
    assert "not a finite number" in refused(series=np.full((24, 3), 1e39))
    assert "this series needs [2, 36, 4]" in refused(time_features=np.zeros((2, 24, 4)))
    assert "must be [length], [length, channels]" in refused(series=np.zeros((1, 1, 24, 3)))
    assert "time_features is missing" in both_refuse(
        forecaster.path, *save(tmp_path, {"series": inputs(24)["series"]})
    )


def test_both_refuse_times_outside_their_table(tmp_path: Path) -> None:
    given = arguments(embed="fixed")
    folder = save_checkpoint(tmp_path / "library", build(given))
    artifact = to_onnx(folder, tmp_path / "artifact", verify=False)
    series, times = (tensor.numpy() for tensor in example(given, 24))
    both(tmp_path, artifact.path, *save(tmp_path, {"series": series, "time_features": times}))
    times[0, 35, 3] = 24
    said = both_refuse(artifact.path, *save(tmp_path, {"series": series, "time_features": times}))
    assert "time_features[0, 35, 3] is 24, not a whole number in 0..23" in said


def test_both_refuse_a_damaged_signature(forecaster: Artifact, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(forecaster.path, copy)
    series = save(tmp_path, {"series": inputs(24)["series"]})
    signature = forecaster.signature.to_json()
    for changes in ({"kind": "images"}, {"time_tables": [3]}, {"inputs": []}, {"horizon": -1}):
        edit_manifest(copy, signature={**signature, **changes})
        assert "signature" in both_refuse(copy, *series)


def test_the_c_interface_takes_tensors_by_name(
    forecaster: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    lib, session, outputs, found = library(), c_void_p(), c_void_p(), Tensor()
    assert lib.reformer_open(bytes(forecaster.path), None, byref(session)) == OK
    given = inputs(24)

    def tensor(name: str, array: np.ndarray, dtype: int) -> Tensor:
        shape = (c_int64 * array.ndim)(*array.shape)
        return Tensor(name.encode(), dtype, array.ndim, shape, array.ctypes.data, array.nbytes)

    def run(*tensors: Tensor) -> int:
        all_of_them = (Tensor * len(tensors))(*tensors)
        status: int = lib.reformer_run_tensors(
            session, all_of_them, c_size_t(len(tensors)), byref(outputs)
        )
        return status

    series = tensor("series", given["series"], FLOAT32)
    times = tensor("time_features", given["time_features"], FLOAT32)
    assert run(series, times) == OK, lib.reformer_last_error()
    assert lib.reformer_output(outputs, 0, byref(found)) == OK
    data = ctypes.string_at(found.data, found.bytes)
    expected = open_runner(forecaster).run(given)["forecast"]
    np.testing.assert_array_equal(np.frombuffer(data, "f4").reshape(2, 12, 2), expected)
    lib.reformer_free_outputs(outputs)

    assert run(series) == INPUT
    assert b"time_features is missing" in lib.reformer_last_error()
    series.bytes -= 1
    assert run(series, times) == USAGE
    ids = np.zeros((1, 24), np.int64)
    assert run(tensor("input_ids", ids, INT64)) == INPUT
    lib.reformer_close(session)
