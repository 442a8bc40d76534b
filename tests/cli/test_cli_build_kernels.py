"""`build-kernels` from the command line: the contents of the folder, and refused arguments."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from reformer_export.cli.main import main

from ..tools.artifact_fixtures import snapshot
from ..tools.model_fixtures import Fixtures
from .invocation import document, error_line

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

LSH = (
    *("--heads", "2", "--head-dim", "16", "--chunk-length", "16", "--causal"),
    *("--num-buckets", "8", "--num-hashes", "2"),
)
LOCAL = LSH[:7]
ONE = ("--target", "sm80", "--dtype", "fp16")


def test_a_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    found = document(capsys, "build-kernels", out, *LSH, *ONE)
    manifest = json.loads((out / "manifest.json").read_text())
    assert found == {"kernels": str(out), "manifest": manifest}
    assert os.listdir(tmp_path) == ["out"]
    names = [kernel["name"] for kernel in manifest["kernels"]]
    assert names == ["lsh_bucket", "sort_pass_0", "attend_rounds", "combine_rounds"]
    assert set(os.listdir(out)) == {"manifest.json", *manifest["files"]}
    for name, record in manifest["files"].items():
        data = (out / name).read_bytes()
        assert record == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    attend = manifest["kernels"][2]
    assert attend["entry"] in (out / attend["ptx"]).read_text()
    assert [(a["name"], a["type"], a["use"]) for a in attend["arguments"]] == [
        ("query_key", "*fp16", "input"),
        ("value", "*fp16", "input"),
        ("order", "*i32", "input"),
        ("mask", "*u8", "input"),
        ("length", "i32", "size"),
        ("outputs", "*fp16", "output"),
        ("lse", "*fp32", "output"),
        ("scratch_0", "*u8", "null"),
        ("scratch_1", "*u8", "null"),
    ]
    # Two heads, two rounds, one tile per chunk of 16.
    assert attend["grid"]["programs"] == "4 * batch * ceil(length * 1 / 16)"
    assert attend["threads"] == 32 * attend["num_warps"]
    for kernel in manifest["kernels"]:
        assert kernel["spill_bytes"] == 0
        assert 0 < kernel["registers"] <= 255


def test_the_same_bytes_again_and_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["build-kernels", str(out), *LOCAL, *ONE]
    assert main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"kernels    {out}"
    assert printed[-1] == "run        no: kernels were compiled, nothing was launched"
    first = snapshot(out)
    assert main(arguments) == 2
    assert "--force" in error_line(capsys)
    assert main([*arguments, "--force"]) == 0
    assert snapshot(out) == first


@pytest.mark.slow
def test_an_artifact(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = fixtures.artifact().path
    found = document(
        capsys, "build-kernels", tmp_path / "out", "--artifact", artifact, "--target", "sm80"
    )
    kernels = found["manifest"]["kernels"]
    assert {kernel["layer"] for kernel in kernels} == {"local", "lsh"}
    assert {kernel["dtype"] for kernel in kernels} == {"fp32"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --artifact or --heads"),
        (("--heads", "2"), "--heads, --head-dim and --chunk-length together"),
        ((*LSH, "--target", "sm70"), "unknown target sm70: choose one of sm75, sm80"),
        ((*LSH, "--target", "turing"), "'turing' is no target"),
        ((*LSH, "--dtype", "int8"), "unknown dtype 'int8': choose one of fp32, fp16, bf16"),
        ((*LSH, "--target", "sm80,sm75", "--dtype", "bf16"), "sm75 does not compute in bf16"),
    ],
)
def test_bad_usage_leaves_nothing(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["build-kernels", str(tmp_path / "out"), *arguments]) == 2
    assert message in error_line(capsys)
    assert os.listdir(tmp_path) == []


def test_a_shape_that_is_not_defined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["build-kernels", str(tmp_path / "out"), *LSH, "--num-buckets", "7", *ONE]
    assert main(arguments) == 1
    assert "factors, even and >= 2; got (7,)" in error_line(capsys)
    assert os.listdir(tmp_path) == []
