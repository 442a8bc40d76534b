"""Engines in the C++ runtime, with real engines and the real library of TensorRT-RTX, up to the
point where a GPU is needed. No engine runs here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorrt_rtx_libs

from reformer_export.artifact.engine import ENGINE, RECORD, Engine
from reformer_export.artifact.manifest import FileRecord
from reformer_export.host import gpu

from ..tools.model_fixtures import Fixtures
from .programs import (
    ROOT,
    RUNTIME,
    Ran,
    both_refuse,
    built,
    environment,
    fetched_headers,
    in_cpp,
    in_python,
)

TASK = "fill-mask"  # it has the smallest model
LIBRARY = Path(tensorrt_rtx_libs.__file__).parent / "libtensorrt_rtx.so.1"
RELEASE = "1.7.1"  # the release of that library

no_gpu = pytest.mark.skipif(
    bool(gpu.find_gpus()[0]), reason="there is a GPU here, and this is about having none"
)


@pytest.fixture(scope="module")
def engine(fixtures: Fixtures) -> Engine:
    return fixtures.engine(TASK, dtype="fp16", verify=False)


@pytest.fixture
def copy(engine: Engine, tmp_path: Path) -> Path:
    return shutil.copytree(engine.path, tmp_path / "engine")


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    np.save(path, np.arange(5))
    return "--input-ids", str(path)


def edit(folder: Path, **changes: object) -> None:
    path = folder / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def forge(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the engine, and update its record to match."""
    path = folder / ENGINE
    path.write_bytes(change(path.read_bytes()))
    files = json.loads((folder / RECORD).read_text())["files"]
    found = FileRecord.of(path)
    edit(folder, files={**files, ENGINE: {"sha256": found.sha256, "bytes": found.bytes}})


def runs_engines(program: Path) -> bool:
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    return "tensorrt" in done.stdout


def refused(*arguments: object, **env: str) -> str:
    if not runs_engines(built() / "reformer-run"):
        pytest.skip("the headers of TensorRT could not be had for the build")
    ran = in_cpp(*arguments, env=os.environ | environment() | env)
    assert ran.code == 1, ran
    return ran.error.removeprefix("error: ")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda p: edit(p, version="1.7.1.1"), "and its record says 1.7.1.1: build it again"),
        (lambda p: edit(p, targets=["sm80"]), "and its record says sm80: build it again"),
        (lambda p: edit(p, schema_version=0), "schema_version must be at least 1, found 0"),
        (lambda p: edit(p, profiles=[]), "profiles is empty: build it again"),
        (lambda p: edit(p, profiles=[{"min": [1, 0]}]), "min must be [batch, length], found [1,"),
        (lambda p: edit(p, files={}), "does not list model.engine: build it again"),
        (lambda p: edit(p, files={ENGINE: {}}), "files.model.engine.sha256 is missing"),
        (lambda p: (p / ENGINE).write_bytes(b"x"), "engine.json says"),
        (lambda p: (p / ENGINE).unlink(), "is missing from"),
        (lambda p: forge(p, lambda data: data[:-100]), "bytes and its header says"),
        (lambda p: forge(p, lambda data: data[:20]), "is not a TensorRT-RTX engine"),
        (lambda p: forge(p, lambda data: b"ELF" + data[3:]), "is not a TensorRT-RTX engine"),
        (lambda p: (p / RECORD).write_text("[]"), "must be an object, found a list"),
    ],
)
def test_a_damaged_engine(
    copy: Path, ids: tuple[str, str], damage: Callable[[Path], object], said: str
) -> None:
    damage(copy)
    assert said in both_refuse(copy, *ids)


def test_each_runtime_takes_its_own_kind(
    engine: Engine, fixtures: Fixtures, ids: tuple[str, str]
) -> None:
    said = both_refuse(engine.path, *ids, "--runtime", "onnxruntime")
    assert "is a TensorRT engine: onnxruntime runs artifacts only" in said
    said = both_refuse(fixtures.artifact(TASK).path, *ids, "--runtime", "tensorrt")
    assert "build one with reformer-export to-tensorrt" in said


def test_libraries_that_cannot_run_it(
    engine: Engine, copy: Path, tmp_path: Path, ids: tuple[str, str]
) -> None:
    said = refused(engine.path, *ids)
    assert "there is no libtensorrt_rtx.so in " in said
    assert "nor a libtensorrt_rtx.so.1 where the system looks: give its place by" in said
    assert "names /nowhere, where there is no" in refused(
        engine.path, *ids, REFORMER_TENSORRT="/nowhere"
    )
    fake = tmp_path / "libtensorrt_rtx.so.1"
    fake.write_text("no library")
    assert f"{fake} does not load: " in refused(engine.path, *ids, "--tensorrt", tmp_path)
    (tmp_path / "x.c").write_text("int x;")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(fake), str(tmp_path / "x.c")], check=True)
    assert "is no TensorRT of 10.9 or later: it has no getInferLibMajorVersion" in refused(
        engine.path, *ids, "--tensorrt", fake
    )
    # The real library, and an engine that another release built.
    forge(copy, lambda data: data[:25] + b"\x06" + data[26:])
    edit(copy, version="1.6.1.116")
    assert refused(copy, *ids, "--tensorrt", LIBRARY).startswith(
        f"{copy} was built by TensorRT-RTX 1.6.1.116, and {engine.record.version} is loaded: "
    )


def test_headers_of_another_release(engine: Engine, ids: tuple[str, str]) -> None:
    """The build fetches headers of standard TensorRT, so it refuses the library of TensorRT-RTX."""
    said = refused(engine.path, *ids, "--tensorrt", LIBRARY.parent)
    assert said.startswith(
        f"{engine.path} needs TensorRT-RTX {engine.record.version}, and this program was built "
        "with the headers of TensorRT 10."
    )


def test_an_engine_beside_its_artifact(
    engine: Engine, fixtures: Fixtures, ids: tuple[str, str]
) -> None:
    """The engine runs if it works here; otherwise, another runtime runs the artifact."""
    arguments = (*ids, "--engine", engine.path, "--tensorrt", LIBRARY, "--json")
    ran = in_cpp(fixtures.artifact(TASK).path, *arguments)
    assert ran.document["runtime"] == "onnxruntime"
    assert ran.document["notes"][0].startswith(f"onnxruntime runs, since {engine.path} needs ")
    for artifact, said in (
        (fixtures.artifact("text-classification"), "was not built from"),
        (fixtures.artifact(TASK), "holds no TensorRT engine"),
    ):
        folder = engine.path if "built" in said else artifact.path
        ran = in_cpp(artifact.path, *ids, "--engine", folder)
        assert (ran.code, said in ran.error) == (2, True), ran


CHECKS = r"""
#include <cstdio>

#include "engine.h"
#include "tensorrt_library.h"
#include "messages.h"

int main() {
  using namespace reformer;
  const std::vector<Profile> profiles{{{1, 7}, {1, 50}, {1, 50}}, {{1, 10}, {8, 20}, {8, 20}}};
  for (const Extent& size : std::vector<Extent>{{1, 7}, {1, 20}, {1, 40}, {8, 10}})
    std::printf("%zu ", choose_profile(profiles, size.batch, size.length));
  try {
    choose_profile(profiles, 2, 21);
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
  }
  std::puts(tidy_message(
      "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing] Cannot "
      "compile 'y' for SM75. In compileGraph at /_src/optimizer/codeGenerator.cpp:2012)").c_str());
}
"""


def test_profiles_and_messages(tmp_path: Path) -> None:
    """These functions are otherwise reached only with a GPU."""
    (tmp_path / "checks.cpp").write_text(CHECKS)
    folder = built() / "CMakeFiles/objects.dir/src"
    # An old build folder also has objects of deleted sources.
    objects = [o for o in folder.glob("*.o") if (RUNTIME / "src" / o.stem).is_file()]
    assert objects
    command = ["c++", "-std=c++17", "-I", str(RUNTIME / "src"), "-I", str(RUNTIME / "include")]
    command += ["-isystem", str(built() / "json-headers"), str(tmp_path / "checks.cpp")]
    command += [*map(str, objects), "-ldl", "-o", str(tmp_path / "checks")]
    subprocess.run(command, check=True)
    done = subprocess.run([str(tmp_path / "checks")], capture_output=True, text=True, check=True)
    shapes = "1x7 to 1x50, tuned for 1x50; 1x10 to 8x20, tuned for 8x20"
    assert done.stdout.splitlines() == [
        f"0 1 0 1 the engine was not built for 2x21 tokens: it takes {shapes}; build one with "
        "other --minShapes and --maxShapes",
        "Cannot compile 'y' for SM75.",
    ]


@pytest.mark.slow
def test_without_headers(sanitized: Path, engine: Engine, ids: tuple[str, str]) -> None:
    """The build with sanitizers has no such headers, but it too reads the files of engines."""
    done = subprocess.run(
        [str(sanitized / "reformer-run"), str(engine.path), *ids],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: this program was built without the headers of TensorRT and cannot run engines: "
        "build it with -DTENSORRT_INCLUDE_DIR=FOLDER\n"
    )


@no_gpu
@pytest.mark.slow
def test_no_gpu(engine: Engine, ids: tuple[str, str], tmp_path: Path) -> None:
    """Only NVIDIA provides the headers of TensorRT-RTX. So this build uses those of TensorRT with
    the version of TensorRT-RTX; it must not run an engine, and fails before it would."""
    headers = built() / "tensorrt-headers"
    if not headers.is_dir():
        pytest.skip("the headers of TensorRT could not be had for the build")
    renamed = shutil.copytree(headers, tmp_path / "headers")
    lines = ["#pragma once"]
    for part, number in zip(("MAJOR", "MINOR", "PATCH"), RELEASE.split("."), strict=True):
        lines.append(f"#define TRT_{part}_RTX {number}")
        lines.append(f"#define NV_TENSORRT_{part} TRT_{part}_RTX")
    lines += ["#define NV_TENSORRT_BUILD 0", "#define NV_TENSORRT_LWS_MAJOR 0"]
    (renamed / "NvInferVersion.h").write_text("\n".join(lines) + "\n")
    build = tmp_path / "build"
    command = ["cmake", "-S", RUNTIME, "-B", build, "-G", "Ninja", "-DCMAKE_CXX_FLAGS_RELEASE=-O0"]
    command += [f"-DTENSORRT_INCLUDE_DIR={renamed}"]
    command += fetched_headers()
    command += [f"-DORT_INCLUDE_DIR={ROOT / 'build/native/onnxruntime-headers'}"]
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for words in (command, ["cmake", "--build", build, "--target", "reformer-run"]):
        done = subprocess.run(
            [*map(str, words)], env=os.environ | tools, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [str(build / "reformer-run"), str(engine.path), *ids, "--tensorrt", str(LIBRARY)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = Ran(done.returncode, done.stdout, done.stderr)
    assert found.code == in_python(engine.path, *ids).code == 1
    assert "a TensorRT-RTX engine, needs an NVIDIA GPU, and the NVIDIA driver" in found.error
