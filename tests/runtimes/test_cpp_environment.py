"""The libraries that `reformer-run` looks for: operators and ONNX Runtime, and no others."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import write_manifest

from ..tools.model_fixtures import Fixtures, feeds
from .programs import ONNXRUNTIME, TEXT, both, both_refuse, built, environment, in_cpp, save


def test_an_artifact_without_our_operators(fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = fixtures.artifact(ops="portable")
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
    """Next to the program, in lib next to its folder, or where an option or a variable says."""
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

    code, printed = run()
    assert code == 1
    assert f"there is no libonnxruntime.so in {tmp_path}/bin or {tmp_path}/lib, and" in printed
    assert "operators" in run("--onnxruntime", library)[1]
    assert "operators" in run("--onnxruntime", ONNXRUNTIME)[1]
    assert "operators" in run(REFORMER_ONNXRUNTIME=str(library))[1]
    assert "names /nowhere, where there is no" in run("--onnxruntime", "/nowhere")[1]
    assert "REFORMER_ONNXRUNTIME names" in run(REFORMER_ONNXRUNTIME=str(tmp_path))[1]
    for folder in ("lib", "bin"):
        (tmp_path / folder / library.name).symlink_to(library)
        code, printed = run()
        assert code == 0, printed
        assert "portable operators" in printed
        shutil.copy(kernels, tmp_path / folder)
        code, printed = run("--ops", "native")
        assert code == 0, printed
        assert "native operators" in printed
        for name in (library.name, kernels.name):
            (tmp_path / folder / name).unlink()
    assert "native operators" in run("--onnxruntime", library, "--ops-folder", kernels.parent)[1]


def test_the_newest_release_of_a_library_is_taken(artifact: Artifact, tmp_path: Path) -> None:
    (library,) = ONNXRUNTIME.glob("libonnxruntime.so.*")
    (tmp_path / library.name).symlink_to(library)
    (tmp_path / "libonnxruntime.so.1.9.0").write_text("older, although its name sorts last")
    assert in_cpp(artifact.path, "--text", TEXT, "--onnxruntime", tmp_path).code == 0
    (tmp_path / "libonnxruntime.so.99.0.0").write_text("no library")
    ran = in_cpp(artifact.path, "--text", TEXT, "--onnxruntime", tmp_path)
    assert "libonnxruntime.so.99.0.0 does not load" in ran.error


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "does not load: "),
        ("int x;", "is not ONNX Runtime: it has no OrtGetApiBase"),
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
