"""A package contains everything that a device needs: it runs from an empty folder."""

from __future__ import annotations

import hashlib
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from reformer_export.artifact import Artifact
from reformer_export.cli.main import main
from reformer_export.cli.packaging import PROVIDERS, package
from reformer_export.errors import RuntimeUnavailableError, UsageError
from reformer_export.exporters.cuda.export import add_cuda_kernels
from reformer_export.runtimes import open_runner

from ..cli.invocation import document, error_line
from .programs import ROOT, built

HERE = f"linux-{platform.machine()}"
TEXT = "Raskolnikow"


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script `run` from another folder, with only the shell's PATH in the environment."""
    return subprocess.run(
        ["env", "-i", "PATH=/usr/bin:/bin", str(folder / "run"), *map(str, arguments)],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_package_runs_from_an_empty_folder(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built()
    out = tmp_path / "device.tar.gz"
    found = document(capsys, "package", artifact.path, out, "--platform", HERE)
    assert found["bytes"] == out.stat().st_size
    (tmp_path / "empty").mkdir()
    with tarfile.open(out) as archive:
        archive.extractall(tmp_path / "empty", filter="data")
    (folder,) = (tmp_path / "empty").iterdir()
    assert folder.name == "device"
    held = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert held == set(found["files"])

    summed = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False
    )
    assert summed.returncode == 0
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert {line.split("  ")[1] for line in lines} == held - {"SHA256SUMS"}

    ran = run(folder, "--text", TEXT, "--output", tmp_path / "out.npz", "--threads", 1)
    assert ran.returncode == 0, ran.stderr
    runner = open_runner(artifact, ops="native", threads=1)
    assert runner.description in ran.stdout
    ids = np.frombuffer(TEXT.encode(), np.uint8)[None].astype(np.int64) + 2
    with np.load(tmp_path / "out.npz") as saved:
        np.testing.assert_array_equal(saved["logits"], runner.run({"input_ids": ids})["logits"])


def test_the_same_contents_give_the_same_bytes(artifact: Artifact, tmp_path: Path) -> None:
    built()
    digests = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        out = tmp_path / folder / "device.tar.gz"
        package(artifact.path, out, platform=HERE)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
        with tarfile.open(out) as archive:
            modes = {entry.name: stat.S_IMODE(entry.mode) for entry in archive}
    assert len(digests) == 1
    executable = {name for name, mode in modes.items() if mode & 0o111}
    assert executable == {"device/run", "device/bin/reformer-run"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("device.zip", "name a .tar.gz file"),
        (".tar.gz", "name a .tar.gz file"),
        ("absent/device.tar.gz", "its folder does not exist"),
    ],
)
def test_names_that_will_not_do(artifact: Artifact, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        package(artifact.path, tmp_path / name, platform=HERE)
    assert not list(tmp_path.iterdir())


def test_platforms_that_are_none(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="unknown platform 'vax': choose one of linux-x86_64"):
        package(artifact.path, tmp_path / "x.tar.gz", platform="vax")
    assert main(["package", str(artifact.path), "x.tar.gz", "--platform", "vax"]) == 2
    assert "is not one of 'linux-x86_64', 'linux-x86_64-cuda'" in error_line(capsys)


@pytest.mark.parametrize("name", ["linux-x86_64", "linux-aarch64"])
def test_what_is_missing(artifact: Artifact, tmp_path: Path, name: str) -> None:
    """Files are checked in a fixed order; the message names the command for the platform."""
    out, runtime = tmp_path / "device.tar.gz", tmp_path / "runtime"
    remedy = {"linux-x86_64": "make cpp", "linux-aarch64": "make cross-aarch64"}[name]

    def missing(said: str) -> None:
        with pytest.raises(RuntimeUnavailableError, match=said):
            package(artifact.path, out, platform=name, runtime_dir=runtime)
        assert not out.exists()

    missing(f"there is no reformer-run for {name} in .*: make it with `{remedy}`")
    for folder in ("bin", "lib"):
        (runtime / folder).mkdir(parents=True)
    (runtime / "bin/reformer-run").touch()
    if name != HERE:
        missing(f"there is no libreformer_ops_ort.so for {name} in .*: make it with `{remedy}`")
        (runtime / "lib/libreformer_ops_ort.so").touch()
        missing(f"there is no libonnxruntime.so for {name} in .*: make it with `{remedy}`")
        (runtime / "lib/libonnxruntime.so.1.2.3").touch()
    found = package(artifact.path, out, platform=name, runtime_dir=runtime)
    assert any(file.startswith("lib/libonnxruntime.so.") for file in found.files)


def test_a_package_for_gpus(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs kernels in the artifact and ONNX Runtime's libraries for CUDA, and runs on CUDA."""
    name, out, runtime = "linux-x86_64-cuda", tmp_path / "device.tar.gz", tmp_path / "runtime"
    with pytest.raises(UsageError, match=r"has no kernels for GPUs: add them with .*add-kernels"):
        package(artifact.path, out, platform=name)
    with_kernels = tmp_path / "artifact"
    shutil.copytree(artifact.path, with_kernels)
    add_cuda_kernels(with_kernels, targets=["sm90"])
    for file in ("bin/reformer-run", "lib/libreformer_ops_ort.so", "lib/libonnxruntime.so.1"):
        (runtime / file).parent.mkdir(parents=True, exist_ok=True)
        (runtime / file).touch()
    with pytest.raises(RuntimeUnavailableError, match=r"providers_shared.so beside .* for CPUs"):
        package(with_kernels, out, platform=name, runtime_dir=runtime)
    for file in PROVIDERS:
        (runtime / "lib" / file).touch()
    found = package(with_kernels, out, platform=name, runtime_dir=runtime)
    assert {"artifact/model.cuda", *(f"lib/{file}" for file in PROVIDERS)} <= set(found.files)
    with tarfile.open(out) as archive:
        script = archive.extractfile("device/run")
        assert script is not None
        assert b'"$here/artifact" --device cuda "$@"' in script.read()


def test_a_disk_that_is_full(artifact: Artifact, tmp_path: Path) -> None:
    built()
    command = [sys.executable, "-m", "reformer_export", "package", str(artifact.path)]
    command += [str(tmp_path / "device.tar.gz"), "--platform", HERE]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 64; trap "" XFSZ; exec "$@"', "-", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "File too large; nothing was written" in done.stderr
    assert not list(tmp_path.iterdir())
