"""The kernels and the runtime for ARM, in an emulator: they give the buckets and numbers of x86."""

from __future__ import annotations

import fcntl
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import ONNX
from reformer_export.cli.packaging import package
from reformer_export.runtimes.cpp_probe import write_probing_artifact

from ..models.configs import WIDE
from ..tools.model_fixtures import Fixtures, feeds
from .programs import ROOT, in_cpp

WORK = ROOT / "build/aarch64"
TOLERANCE = 1e-5  # relative to the largest output; another bucket would give an error of 1e-1
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.machine() != "x86_64" or shutil.which("apt-get") is None,
        reason="the cross compiler and the emulator are fetched from Debian for x86-64",
    ),
]


@pytest.fixture(scope="module")
def emulator() -> list[str]:
    """The command that runs aarch64 programs, such as those that `make cross-aarch64` builds."""
    WORK.mkdir(parents=True, exist_ok=True)
    qemu, libc = WORK / "qemu-aarch64", WORK / "tools/usr/aarch64-linux-gnu"
    with (WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command(
            "bash",
            "-c",
            'PATH="$(dirname "$0"):$PATH" sh reformer_export/runtimes/cpp/cross_aarch64.sh "$0"',
            sys.executable,
        )
        if not qemu.exists():
            # The emulator of Debian 12 is too old for ONNX Runtime.
            fetch = ROOT / "custom_ops/cmake/fetch_debian.sh"
            command("sh", fetch, WORK / "qemu", "trixie", "qemu-user")
            shutil.copy(WORK / "qemu/usr/bin/qemu-aarch64", qemu)
            shutil.rmtree(WORK / "qemu")
        if not libc.is_dir():  # the compiler and its libraries are installed in the system
            libc = Path("/usr/aarch64-linux-gnu")
    return [str(qemu), "-L", str(libc)]


def command(*words: object) -> str:
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def device(
    emulator: list[str], artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder that contains only the unpacked package."""
    folder = tmp_path_factory.mktemp("device")
    package(artifact.path, folder / "arm.tar.gz", platform="linux-aarch64")
    with tarfile.open(folder / "arm.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "arm"


@pytest.fixture(scope="module")
def probing(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact with its buckets as further outputs."""
    folder = tmp_path_factory.mktemp("probing")
    assert write_probing_artifact(artifact, ONNX, folder) == 1
    return folder


def run(emulator: list[str], device: Path, *arguments: object, isa: str = "") -> str:
    """Run the package's reformer-run with an environment that has only the instruction set."""
    words = [*emulator, device / "bin/reformer-run", *arguments]
    return command("env", "-i", f"REFORMER_FORCE_ISA={isa}", *words, "--threads", 1)


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_the_buckets_and_numbers_of_x86(
    emulator: list[str], device: Path, artifact: Artifact, probing: Path, tmp_path: Path, ops: str
) -> None:
    packed = device / "artifact"
    for size in ((1, 1), (9, 1), (31, 2)) + (((120, 2),) if ops == "native" else ()):
        for name, array in feeds(*size, vocab_size=258).items():
            np.save(tmp_path / f"{name}.npy", array)
        arguments = ["--input-ids", tmp_path / "input_ids.npy", "--ops", ops]
        arguments += ["--attention-mask", tmp_path / "attention_mask.npy", "--output"]
        for there, here, outputs in (
            (packed, artifact.path, ["logits"]),
            (probing, probing, ["logits", "computed_buckets.0"]),
        ):
            printed = run(emulator, device, there, *arguments, tmp_path / "arm.npz")
            named = "native operators (neon_dot)" if ops == "native" else "portable operators"
            assert named in printed
            assert in_cpp(here, *arguments, tmp_path / "x86.npz").code == 0
            with np.load(tmp_path / "arm.npz") as arm, np.load(tmp_path / "x86.npz") as x86:
                assert list(arm) == list(x86) == outputs
                scale = np.abs(x86["logits"]).max()
                np.testing.assert_allclose(
                    arm["logits"], x86["logits"], rtol=0, atol=TOLERANCE * scale
                )
                for name in outputs[1:]:
                    assert x86[name].size >= 2 * 2 * size[0] * size[1]  # heads, rounds
                    np.testing.assert_array_equal(arm[name], x86[name])


@pytest.mark.parametrize("isa", ["neon", "neon_dot"])
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_weights_of_fewer_bits(
    weights: str, isa: str, emulator: list[str], device: Path, fixtures: Fixtures, tmp_path: Path
) -> None:
    """ARM and x86 round a few numbers to different integers."""
    config = {**WIDE, "vocab_size": 48, "feed_forward_size": 64}
    artifact = fixtures.artifact("text-generation", config, weights=weights)
    for length in (1, 40):
        np.save(tmp_path / "ids.npy", feeds(length, vocab_size=48)["input_ids"])
        arguments = [artifact.path, "--input-ids", tmp_path / "ids.npy", "--output"]
        printed = run(emulator, device, *arguments, tmp_path / "arm.npz", isa=isa)
        assert f"native operators ({isa})" in printed
        assert in_cpp(*arguments, tmp_path / "x86.npz").code == 0
        with np.load(tmp_path / "arm.npz") as arm, np.load(tmp_path / "x86.npz") as x86:
            difference = np.square(arm["logits"] - x86["logits"]).mean()
            assert difference < 0.01 * np.square(x86["logits"]).mean()


def test_the_sums_are_right(device: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=device, check=True)
    machines = {
        line.split(":")[1].strip()
        for path in (device / "bin/reformer-run", *device.glob("lib/*"))
        for line in command("readelf", "-h", path).splitlines()
        if "Machine:" in line
    }
    assert machines == {"AArch64"}
