"""`reformer-run` says and gives what `reformer-export run` does, in the same bytes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reformer_export
from reformer_export.artifact import Artifact
from reformer_export.manifest import write_manifest
from reformer_ops import native_status

from ..handmade import edit_manifest, make_artifact, snapshot
from ..workshop import TINY, Workshop, feeds
from .programs import ONNXRUNTIME, built, environment, in_cpp, in_python

TEXT = "Grüße aus Petersburg, lieber Rodion Romanowitsch!"
TIMES = {"open_seconds", "run_seconds"}


def both(folder: Path, *arguments: object) -> dict[str, Any]:
    """Run both programs; compare documents and outputs; the document."""
    documents, outputs = [], []
    for program in (in_python, in_cpp):
        out = folder / "out.npz"
        ran = program(*arguments, "--output", out, "--json")
        assert ran.code == 0, ran
        documents.append({k: v for k, v in ran.document.items() if k not in TIMES})
        with np.load(out) as saved:
            outputs.append(dict(saved))
        out.unlink()
    assert documents[0] == documents[1]
    ours, theirs = outputs
    assert list(ours) == list(theirs) == list(documents[0]["outputs"])
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name])
    return documents[0]


def both_refuse(*arguments: object) -> str:
    """Run both programs, which fail alike; the error."""
    python, cpp = in_python(*arguments), in_cpp(*arguments)
    assert (cpp.code, cpp.error) == (python.code, python.error)
    assert cpp.code != 0
    assert cpp.out == python.out == ""
    told = in_cpp("--json", *arguments).document
    assert told == {"error": cpp.error.removeprefix("error: "), "exit_code": cpp.code}
    return cpp.error


def save(folder: Path, inputs: dict[str, np.ndarray]) -> list[object]:
    """The arguments that name these inputs."""
    arguments: list[object] = []
    for name, array in inputs.items():
        np.save(folder / f"{name}.npy", array)
        arguments += [f"--{name.replace('_', '-')}", folder / f"{name}.npy"]
    return arguments


@pytest.fixture
def artifact(workshop: Workshop) -> Artifact:
    return workshop.artifact("text-generation", TINY)


@pytest.mark.parametrize("ops", ["native", "portable"])
@pytest.mark.parametrize("task", ["text-generation", "question-answering"])
def test_tasks_by_both_kernels(workshop: Workshop, tmp_path: Path, task: str, ops: str) -> None:
    artifact = workshop.artifact(task)
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
def test_other_artifacts(workshop: Workshop, tmp_path: Path, options: dict[str, Any]) -> None:
    artifact = workshop.artifact(**options)
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
        told = program(artifact.path, "--text", TEXT, "--bench", 3).out
        assert "bench    3 runs: median " in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'ARTIFACT'."),
        (["a", "b"], "Got unexpected extra argument (b)"),
        (["a", "--fast"], "No such option"),
        (["a", "--text"], "Option '--text' requires an argument."),
        (["a", "--json=1"], "Option '--json' does not take a value."),
        (["a", "--threads", "0"], "0 is not in the range x>=1."),
        (["a", "--threads", "two"], "'two' is not a valid integer range."),
        (["a", "--ops", "fast"], "is not one of 'auto', 'native', 'portable'."),
        (["a", "--tokenizer", "words"], "is not one of 'auto', 'bytes'."),
        (["a"], "give exactly one of --input-ids, --text and --text-file"),
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
    for program in (in_python, in_cpp):  # each names those it has
        ran = program(artifact.path, "--text", "x", "--runtime", "fast")
        assert ran.code == 2
        assert "unknown runtime 'fast': choose auto or one of onnxruntime" in ran.error


def test_help_and_version() -> None:
    shown = in_cpp("--help")
    assert shown.code == 0
    for option in ("--input-ids", "--text-file", "--output", "--threads", "--bench", "--json"):
        assert option in shown.out
        assert option in in_python("--help").out
    assert in_cpp("--version").out == f"reformer-run {reformer_export.__version__}\n"


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
    """What exactly is wrong, NumPy says in its own words; the rest is one sentence."""
    (tmp_path / "ids.npy").write_bytes(content)
    errors = []
    for program in (in_python, in_cpp):
        ran = program(artifact.path, "--input-ids", tmp_path / "ids.npy")
        assert ran.code == 1
        errors.append((ran.error.split(" (")[0], ran.error.split("): ")[-1]))
    assert errors[0] == errors[1]


def test_files_that_cannot_be_read(artifact: Artifact, tmp_path: Path) -> None:
    for option in ("--input-ids", "--text-file"):
        for path in (tmp_path, tmp_path / "absent"):
            assert "cannot read" in both_refuse(artifact.path, option, path)


def test_texts_that_are_no_bytes(workshop: Workshop, tmp_path: Path) -> None:
    small = workshop.artifact("text-generation")
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
    """A full disk, in a process that may write no more than a few kB."""
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


# -- artifacts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["absent", "file", "empty"])
def test_what_is_no_artifact(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    both_refuse(tmp_path / name, "--text", "x")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "1"},
        {"schema_version": 0},
        {"task": None},
        {"ops": {"mode": "auto", "domain": "reformer"}},
        {"ops": 3},
        {"files": {"model.onnx": {"sha256": "x", "bytes": -1}}},
        {"files": {"model.onnx": "x"}},
        {"files": {"model.onnx": {"sha256": True, "bytes": 1.5}}},
        {"files": {}},
        {"files": []},
        {"files": {"manifest.json": {"sha256": "x", "bytes": 1}, "model.onnx": 1}},
        {"signature": None},
        {"signature": {"inputs": []}},
        {"signature": {"inputs": [{"name": "x", "dtype": "int64", "axes": ["a", 0]}]}},
        {"signature": {"inputs": [{"name": "x", "dtype": "int64", "axes": ["a", [None, "b"]]}]}},
        {"signature": {"inputs": [{"name": "x", "dtype": "int64", "axes": ["a", 5]}]}},
        {"signature": {"inputs": [{"name": "x", "dtype": "complex", "axes": []}]}},
    ],
)
def test_a_manifest_of_the_wrong_shape(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = make_artifact(tmp_path / "artifact")
    edit_manifest(folder, **changes)
    both_refuse(folder, "--text", "x")


@pytest.mark.parametrize(
    "change", [{"outputs": []}, {"vocab_size": 0}, {"min_length": 9, "max_length": 8}]
)
def test_a_signature_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = make_artifact(tmp_path / "artifact")
    signature = Artifact.open(folder).signature.to_json()
    edit_manifest(folder, signature=signature | change)
    both_refuse(folder, "--text", "x")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\xff", b"[" * 100_000, b'{"a": ' * 1000, b"[1, 2"]
)
def test_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    """What exactly is wrong, each parser says in its own words."""
    folder = make_artifact(tmp_path / "artifact")
    (folder / "manifest.json").write_bytes(content)
    for program in (in_python, in_cpp):
        ran = program(folder, "--text", "x")
        assert ran.code == 1
        assert "manifest.json is not valid JSON (" in ran.error
        assert ran.error.endswith("): the artifact is damaged, export the model again")


def test_a_manifest_of_a_later_schema(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    edit_manifest(folder, schema_version=3)
    ran = in_cpp(folder, "--text", "x")
    assert ran.code == 1
    assert "manifest.json has schema version 3 and this runtime reads up to 2" in ran.error


def test_a_manifest_that_is_too_large(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    (folder / "manifest.json").write_bytes(b" " * (16 * 2**20 + 1))
    assert "that is no manifest" in both_refuse(folder, "--text", "x")


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def outside(path: Path) -> None:
    path.rename(path.parent.parent / "outside")
    path.symlink_to("../outside")


def to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["model.onnx", "config.json"])
@pytest.mark.parametrize(
    "damage",
    [
        changed,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
        outside,
        folder_instead,
        fifo_instead,
    ],
)
def test_a_damaged_artifact(tmp_path: Path, name: str, damage: Callable[[Path], Any]) -> None:
    folder = make_artifact(tmp_path / "artifact")
    damage(folder / name)
    both_refuse(folder, "--text", "x")


def test_a_link_to_itself(tmp_path: Path) -> None:
    """Here the system's words and Python's differ."""
    folder = make_artifact(tmp_path / "artifact")
    to_itself(folder / "model.onnx")
    for program in (in_python, in_cpp):
        ran = program(folder, "--text", "x")
        assert ran.code == 1
        assert "the file that manifest.json lists, 'model.onnx' cannot be read: " in ran.error


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "/etc/passwd", "a/b", "a\\b", "c:b", "a\nb", "a'b/\""]
)
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    folder = make_artifact(tmp_path / "artifact")
    os.mkfifo(tmp_path / "secret")  # whoever opens it waits for ever
    files = {"model.onnx": Artifact.open(folder).manifest.files["model.onnx"]}
    entry = {n: {"sha256": r.sha256, "bytes": r.bytes} for n, r in files.items()}
    edit_manifest(folder, files=entry | {name: {"sha256": "x", "bytes": 1}})
    assert "is not a plain file name inside the folder" in both_refuse(folder, "--text", "x")


# -- libraries -----------------------------------------------------------------------------------


def test_an_artifact_without_our_operators(workshop: Workshop, tmp_path: Path) -> None:
    artifact = workshop.artifact(ops="portable")
    arguments = (artifact.path, *save(tmp_path, feeds(20)))
    found = both(tmp_path, *arguments)
    assert found["description"].endswith("portable operators")
    assert "it was exported with --ops portable" in both_refuse(*arguments, "--ops", "native")


def test_operators_of_another_version(artifact: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(artifact.path, tmp_path / "copy")
    record = dataclasses.replace(artifact.manifest.ops, versions={"LshBucket": 2, "Else": 1})
    write_manifest(folder, dataclasses.replace(artifact.manifest, ops=record))
    both(tmp_path, folder, "--text", TEXT)
    said = both_refuse(folder, "--text", TEXT, "--ops", "native")
    assert "it has Else version 1, LshBucket version 2, which this release does not know" in said


def test_no_kernels(artifact: Artifact, tmp_path: Path) -> None:
    env = os.environ | environment() | {"REFORMER_OPS_LIBRARY_DIR": str(tmp_path)}
    ran = in_cpp(artifact.path, "--text", TEXT, "--json", env=env)
    assert ran.document["description"].endswith("portable operators")
    assert f"there is no libreformer_ops_ort.so in {tmp_path}" in ran.document["notes"][0]
    for ops, changes in (("native", {}), ("auto", {"REFORMER_OPS": "native"})):
        ran = in_cpp(artifact.path, "--text", TEXT, "--ops", ops, env=env | changes)
        assert ran.code == 1
        assert f"there is no libreformer_ops_ort.so in {tmp_path}: build it there" in ran.error
    (tmp_path / "libreformer_ops_ort.so").write_text("no library")
    ran = in_cpp(artifact.path, "--text", TEXT, "--ops", "native", env=env)
    assert ran.code == 1
    assert "libreformer_ops_ort.so does not load (" in ran.error
    ran = in_cpp(artifact.path, "--text", TEXT, env=env)
    assert ran.code == 0
    assert "note: portable operators run: " in ran.err
    assert "does not load (" in ran.err


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("REFORMER_OPS", "fast", "REFORMER_OPS=fast: choose one of auto, native, portable"),
        ("REFORMER_FORCE_ISA", "vax", "REFORMER_FORCE_ISA asks for vax, which is unknown here"),
    ],
)
def test_the_environment(artifact: Artifact, variable: str, value: str, said: str) -> None:
    env = os.environ | environment() | {variable: value}
    ran = in_cpp(artifact.path, "--text", TEXT, env=env)
    assert ran.code == 1
    assert said in ran.error
    env |= {"REFORMER_OPS": "portable"} if variable != "REFORMER_OPS" else {variable: "portable"}
    ran = in_cpp(artifact.path, "--text", TEXT, "--json", env=env)
    assert ran.document["description"].endswith("portable operators")


def test_where_libraries_are_looked_for(artifact: Artifact, tmp_path: Path) -> None:
    """Beside the program, in lib beside its folder, where an option or a variable says."""
    (library,) = ONNXRUNTIME.glob("libonnxruntime.so.*")
    kernels = Path(environment()["REFORMER_OPS_LIBRARY_DIR"]) / "libreformer_ops_ort.so"
    for folder in ("bin", "lib"):
        (tmp_path / folder).mkdir()
    program = shutil.copy(built() / "reformer-run", tmp_path / "bin")
    command = [program, str(artifact.path), "--text", TEXT]

    def run(*more: object, **env: str) -> tuple[int, str]:
        done = subprocess.run(
            [*command, *map(str, more)], env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    code, told = run()
    assert code == 1
    assert f"there is no libonnxruntime.so in {tmp_path}/bin or {tmp_path}/lib, nor where" in told
    assert "operators" in run("--onnxruntime", library)[1]
    assert "operators" in run("--onnxruntime", ONNXRUNTIME)[1]
    assert "operators" in run(REFORMER_ONNXRUNTIME=str(library))[1]
    assert "names /nowhere, where there is no" in run("--onnxruntime", "/nowhere")[1]
    assert "REFORMER_ONNXRUNTIME names" in run(REFORMER_ONNXRUNTIME=str(tmp_path))[1]
    for folder in ("lib", "bin"):
        (tmp_path / folder / library.name).symlink_to(library)
        code, told = run()
        assert code == 0, told
        assert "portable operators" in told
        shutil.copy(kernels, tmp_path / folder)
        code, told = run("--ops", "native")
        assert code == 0, told
        assert "native operators" in told
        for name in (library.name, kernels.name):
            (tmp_path / folder / name).unlink()
    assert "native operators" in run("--onnxruntime", library, "--ops-folder", kernels.parent)[1]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "does not load: "),
        ("int x;", "is no ONNX Runtime: it has no OrtGetApiBase"),
        (
            "const void* none(unsigned v) { return 0; }"
            'const char* version(void) { return "1.20.1"; }'
            "const struct { const void* (*a)(unsigned); const char* (*v)(void); }"
            " base = {none, version};"
            "const void* OrtGetApiBase(void) { return &base; }",
            "is ONNX Runtime 1.20.1; 1.21 or later is needed",
        ),
    ],
)
def test_what_is_no_onnxruntime(
    artifact: Artifact, tmp_path: Path, source: str | None, said: str
) -> None:
    library = tmp_path / "libonnxruntime.so"
    library.write_text("no library")
    if source is not None:
        (tmp_path / "x.c").write_text(source)
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "x.c")], check=True
        )
    ran = in_cpp(artifact.path, "--text", TEXT, "--onnxruntime", library)
    assert ran.code == 1
    assert said in ran.error


def test_it_needs_no_library_but_libc() -> None:
    done = subprocess.run(
        ["readelf", "-d", str(built() / "reformer-run")], capture_output=True, text=True, check=True
    )
    needed = {line.split("[")[1][:-1] for line in done.stdout.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc.so.6", "libm.so.6", "libdl.so.2", "ld-linux-x86-64.so.2"}
