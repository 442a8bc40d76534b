"""`reformer-run` gives the same bytes as `reformer-export run`, and refuses the same arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import reformer_export
from reformer_export.artifact import Artifact
from reformer_ops import native_status

from ..tools.artifact_fixtures import edit_manifest, make_artifact, snapshot
from ..tools.model_fixtures import Fixtures, feeds
from .programs import TEXT, both, both_refuse, built, environment, in_cpp, in_python, save


@pytest.mark.parametrize("ops", ["native", "portable"])
@pytest.mark.parametrize("task", ["text-generation", "question-answering"])
def test_tasks_by_both_kernels(fixtures: Fixtures, tmp_path: Path, task: str, ops: str) -> None:
    artifact = fixtures.artifact(task)
    inputs = feeds(31, 3)
    found = both(tmp_path, artifact.path, *save(tmp_path, inputs), "--ops", ops, "--threads", 1)
    kernels = f"native operators ({native_status('ort').isa})"
    assert found["description"].endswith(
        "CPU, 1 threads, " + (kernels if ops == "native" else "portable operators")
    )


@pytest.mark.parametrize("size", [(1, 1), (8, 1), (9, 2), (120, 3)])
def test_every_length(artifact: Artifact, tmp_path: Path, size: tuple[int, int]) -> None:
    both(tmp_path, artifact.path, *save(tmp_path, feeds(*size, vocab_size=258)))


@pytest.mark.parametrize("options", [{"dtype": "fp16"}, {"external_data": True}])
def test_other_artifacts(fixtures: Fixtures, tmp_path: Path, options: dict[str, Any]) -> None:
    artifact = fixtures.artifact(**options)
    both(tmp_path, artifact.path, *save(tmp_path, feeds(30, 2)))


def test_a_text(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text(TEXT, encoding="utf-8")
    found = both(tmp_path, artifact.path, "--text", TEXT)
    assert found["encoding"] == "bytes + 2"
    assert found == both(tmp_path, artifact.path, "--text-file", tmp_path / "letter.txt")
    assert found["predictions"][0]["text"] is not None


def test_for_people(artifact: Artifact) -> None:
    cpp, python = in_cpp(artifact.path, "--text", TEXT), in_python(artifact.path, "--text", TEXT)
    lines = [
        [line for line in ran.out.splitlines() if not line.startswith("time ")]
        for ran in (cpp, python)
    ]
    assert lines[0] == lines[1]
    assert cpp.err == ""


def test_bench(artifact: Artifact) -> None:
    for program in (in_python, in_cpp):
        bench = program(artifact.path, "--text", TEXT, "--bench", 3, "--json").document["bench"]
        assert bench["runs"] == 3
        assert 0 < bench["best_seconds"] <= bench["median_seconds"] < 10
        assert bench["peak_rss_bytes"] > 2**22
        printed = program(artifact.path, "--text", TEXT, "--bench", 3).out
        assert "bench    3 runs: median " in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "ARTIFACT is missing: see reformer-run --help"),
        (["a", "b"], "one ARTIFACT is expected; got also 'b'"),
        (["a", "--fast"], "'fast' does not exist"),
        (["a", "--text"], "'text' is missing an argument"),
        (["a", "--json=1"], "--json does not take a value"),
        (["a", "--threads", "0"], "--threads takes a whole number of at least 1; got '0'"),
        (["a", "--threads", "two"], "--threads takes a whole number of at least 1; got 'two'"),
        (["a", "--bench=0x10"], "--bench takes a whole number of at least 1; got '0x10'"),
        (["a", "--bench="], "--bench takes a whole number of at least 1; got ''"),
        (["a", "--ops", "fast"], "--ops takes one of auto, native, portable; got 'fast'"),
        (["a", "--tokenizer", "words"], "--tokenizer takes one of auto, bytes; got 'words'"),
        (["a", "-5"], "'5' does not exist"),
        (["a", "--", "--text"], "one ARTIFACT is expected; got also '--text'"),
        (["a"], "give exactly one of --input-ids, --text, --text-file and --series"),
        (["a", "--text", "x", "--text-file", "y"], "give exactly one of"),
        (["a", "--text", "x", "--attention-mask", "y"], "a text has no padding"),
        (["a", "--text", "x", "--output", "y"], "--output y: name a .npz file"),
        (["a", "--text", "x", "--output", "/no/y.npz"], "its folder does not exist"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    assert said in both_refuse(*arguments)
    assert in_cpp(*arguments).code == 2


def test_options_that_python_has_too(artifact: Artifact, tmp_path: Path) -> None:
    both(tmp_path, f"--text={TEXT}", "--threads=1", artifact.path)
    for program in (in_python, in_cpp):
        assert program(f"--text={TEXT}", "--", artifact.path).code == 0
    for program in (in_python, in_cpp):  # each program names its own runtimes
        ran = program(artifact.path, "--text", "x", "--runtime", "fast")
        assert ran.code == 2
        assert "unknown runtime 'fast': choose auto or one of " in ran.error


def test_long_and_strange_arguments(artifact: Artifact, tmp_path: Path) -> None:
    """A text with line breaks, commas and signs is one argument; a long text does no harm."""
    for text in ("a, b\nc", "--text", "-", "x=y", "é" * 30, "a" * 100):
        both(tmp_path, artifact.path, f"--text={text}")
    folder = tmp_path / "an artifact, with = signs"
    folder.symlink_to(artifact.path)
    both(tmp_path, "--text", "--json", folder)
    assert "holds a sequence of 100000 tokens" in both_refuse(
        artifact.path, f"--text={'a' * 100_000}"
    )


def test_quoted_values(artifact: Artifact, tmp_path: Path) -> None:
    """Messages quote values on one line, and cut long values."""
    said = in_cpp(artifact.path, "--text", "x", "--runtime", "a\nb\x1b[31m\x7fé'\"\\").error
    assert "unknown runtime 'a\\x0ab\\x1b[31m\\x7fé'\"\\': choose auto or one of " in said
    said = in_cpp(artifact.path, "--text", "x", "--device", "x" * 5000).error
    assert f"unknown device '{'x' * 200}...': it is cpu" in said
    folder = make_artifact(tmp_path / "artifact")
    edit_manifest(folder, task=["y" * 5000], files={"z" * 5000 + "/": {}})
    assert len(in_cpp(folder, "--text", "x").error) < 1000


def test_devices(artifact: Artifact, tmp_path: Path) -> None:
    both(tmp_path, artifact.path, "--text", TEXT, "--device", "cpu")
    for device in ("gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"):
        said = f"unknown device '{device}': it is cpu, cuda, or cuda:N for the GPU number N"
        assert said in both_refuse(artifact.path, "--text", TEXT, "--device", device)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this onnxruntime is one for GPUs",
)
def test_an_onnxruntime_for_cpus(artifact: Artifact) -> None:
    ran = in_cpp(artifact.path, "--text", TEXT, "--device", "cuda:1")
    assert ran.code == 1
    assert "cannot use cuda:1: CUDA execution provider is not enabled" in ran.error


def test_help_and_version() -> None:
    shown = in_cpp("--help")
    assert shown.code == 0
    for option in ("--input-ids", "--text-file", "--output", "--threads", "--bench", "--json"):
        assert option in shown.out
        assert option in in_python("--help").out
    printed = in_cpp("--version").out
    version = f"reformer-run {reformer_export.__version__}"
    assert printed in {f"{version} ({has}onnxruntime)\n" for has in ("", "tensorrt, ")}


@pytest.mark.parametrize(
    ("ids", "mask"),
    [
        (np.full((1, 5), 258), None),
        (np.full((2, 5), -1), None),
        (np.full((1, 5), 2**64 - 1, np.uint64), None),
        (np.zeros((1, 0), int), None),
        (np.zeros((0, 5), int), None),
        (np.zeros((1, 121), int), None),
        (np.zeros((1, 5)), None),
        (np.zeros((1, 5), bool), None),
        (np.zeros((1, 2, 3), int), None),
        (np.array(7), None),
        (np.zeros((2, 5), int), np.ones((2, 4), int)),
        (np.zeros((1, 5), int), np.full((1, 5), 2)),
        (np.zeros((1, 5), int), np.full((1, 5), -1, np.int8)),
        (np.zeros((1, 5), int), np.ones((1, 5))),
    ],
)
def test_inputs_that_the_model_does_not_take(
    artifact: Artifact, tmp_path: Path, ids: np.ndarray, mask: np.ndarray | None
) -> None:
    given = {"input_ids": ids} | ({} if mask is None else {"attention_mask": mask})
    arguments = save(tmp_path, given)
    before = snapshot(tmp_path)
    both_refuse(artifact.path, *arguments, "--output", tmp_path / "out.npz")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "ids",
    [
        *(np.arange(20, dtype=t) for t in ("i1", "<i2", ">i4", "<i8", ">i8", "u1", ">u2", "<u8")),
        np.asfortranarray(np.arange(20).reshape(4, 5)),
        np.arange(40).reshape(4, 10)[:, ::2],
    ],
)
def test_arrays_of_every_kind(artifact: Artifact, tmp_path: Path, ids: np.ndarray) -> None:
    mask = np.ones(ids.shape, bool)
    both(tmp_path, artifact.path, *save(tmp_path, {"input_ids": ids, "attention_mask": mask}))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_npy_format(
    artifact: Artifact, tmp_path: Path, version: tuple[int, int]
) -> None:
    with (tmp_path / "ids.npy").open("wb") as file:
        np.lib.format.write_array(file, np.arange(9), version=version)
    both(tmp_path, artifact.path, "--input-ids", tmp_path / "ids.npy")


def npy(header: bytes, data: bytes = b"\0" * 64) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x93NUMPY\x09\x00" + b"\0" * 20,
        npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (9,)}"),
        npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1000000000000)}"),
        npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}"),
        npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (-1, 4)}"),
        npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999,)}"),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (4,)}"),
        npy(b"{'descr': '<i8', 'shape': (4,)}"),
        npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (4,)"),
        npy(b"{'descr': '<i8', 'fortran_order': 1, 'shape': 4}"),
        npy(b"{" * 200),
    ],
)
def test_files_that_are_no_array(artifact: Artifact, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ids.npy").write_bytes(content)
    for program in (in_python, in_cpp):
        ran = program(artifact.path, "--input-ids", tmp_path / "ids.npy")
        assert ran.code == 1
        assert str(tmp_path / "ids.npy") in ran.error
        assert "write it with numpy.save" in ran.error


def test_files_that_cannot_be_read(artifact: Artifact, tmp_path: Path) -> None:
    for option in ("--input-ids", "--text-file"):
        for path in (tmp_path, tmp_path / "absent"):
            assert "cannot read" in both_refuse(artifact.path, option, path)


def test_texts_that_are_no_bytes(fixtures: Fixtures, tmp_path: Path) -> None:
    small = fixtures.artifact("text-generation")
    assert "cannot hold bytes" in both_refuse(small.path, "--text", "x")
    pieces = make_artifact(tmp_path / "pieces", vocab_size=320)
    assert "SentencePiece Reformers, not of bytes" in both_refuse(pieces, "--text", "x")
    found = both(tmp_path, pieces, "--text", "x", "--tokenizer", "bytes")
    assert "as asked: the text's raw bytes" in found["notes"][0]
    named = make_artifact(tmp_path / "named", files={"tokenizer.json": b"{}"})
    ran = in_cpp(named, "--text", "x")
    assert ran.code == 1
    assert "tokenizer.json, which this program does not read: encode it with" in ran.error
    both(tmp_path, named, "--text", "x", "--tokenizer", "bytes")


def test_an_output_that_cannot_be_written(artifact: Artifact, tmp_path: Path) -> None:
    """A limit of a few kB on the size of files has the effect of a full disk."""
    command = [built() / "reformer-run", artifact.path, "--text", TEXT]
    command += ["--output", tmp_path / "out.npz"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$@"', "-", *map(str, command)],
        env=os.environ | environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "File too large; nothing was written" in done.stderr
    assert not list(tmp_path.iterdir())
