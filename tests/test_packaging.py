"""The files that `pip install` puts on a user's machine."""

from __future__ import annotations

import configparser
import fcntl
import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import EntryPoint
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "reformer_ops": ROOT / "custom_ops/reformer_ops",
    "reformer_models": ROOT / "models/reformer_models",
    "reformer_export": ROOT / "reformer_export",
}


def build_wheel(
    folder: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--wheel-dir", str(folder)]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    with (ROOT / "pyproject.toml").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # all test processes share one build folder
        return subprocess.run(
            [*command, *options],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout with the tools that are installed, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    done = build_wheel(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture
def files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture
def metadata(files: dict[str, bytes]) -> Message:
    return BytesParser().parsebytes(_dist_info(files, "METADATA"))


def _dist_info(files: dict[str, bytes], name: str) -> bytes:
    (found,) = (
        path for path in files if PurePosixPath(path).match(f"reformer_export-*.dist-info/{name}")
    )
    return files[found]


def test_one_wheel_serves_every_python(wheel: Path) -> None:
    assert "-py3-none-" in wheel.name


def test_the_wheel_holds_the_three_packages_alone(files: dict[str, bytes]) -> None:
    top = {PurePosixPath(path).parts[0] for path in files}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
    assert not [path for path in files if "test" in path or "__pycache__" in path]
    assert not [path for path in files if path.endswith((".cpp", ".h"))]


def test_the_wheel_holds_both_libraries_or_serves_every_machine(
    wheel: Path, files: dict[str, bytes]
) -> None:
    libraries = {path for path in files if path.endswith(".so")}
    if wheel.name.endswith("-py3-none-any.whl"):
        assert not libraries
        assert os.environ.get("REFORMER_NATIVE") != "1"
    else:
        assert libraries == {
            f"reformer_ops/_native/libreformer_ops_{kind}.so" for kind in ("ort", "torch")
        }


@pytest.mark.parametrize(("native", "builds"), [("", True), ("0", True), ("1", False)])
def test_without_a_compiler(native: str, builds: bool, tmp_path: Path) -> None:
    """A native build fails if it was requested; otherwise the wheel has no native libraries."""
    environment = {"CXX": shutil.which("false") or "", "REFORMER_NATIVE": native}
    done = build_wheel(tmp_path, f"--config-settings=build-dir={tmp_path}/build", **environment)
    wheels = [path.name for path in tmp_path.glob("*.whl")]
    assert (done.returncode == 0) is builds, done.stdout + done.stderr
    assert all(name.endswith("-py3-none-any.whl") for name in wheels)
    assert len(wheels) == int(builds)


def test_the_wheel_holds_every_source_as_it_is(files: dict[str, bytes]) -> None:
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
    }
    packed = {path: data for path, data in files.items() if path.endswith(".py")}
    assert sorted(packed) == sorted(expected)
    assert packed == expected


def test_the_wheel_holds_the_web_page(files: dict[str, bytes]) -> None:
    folder = "exporters/web/page"
    expected = {
        f"reformer_export/{folder}/{path.name}": path.read_bytes()
        for path in (PACKAGES["reformer_export"] / folder).iterdir()
    }
    assert len(expected) == 7
    assert {path: files.get(path) for path in expected} == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_are_typed(package: str, files: dict[str, bytes]) -> None:
    assert f"{package}/py.typed" in files


def test_the_license_is_in_the_wheel(files: dict[str, bytes], metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert _dist_info(files, "licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_command_leads_to_a_function(files: dict[str, bytes]) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(_dist_info(files, "entry_points.txt").decode())
    assert parser.sections() == ["console_scripts"]
    assert parser.options("console_scripts") == ["reformer-export"]
    target = parser["console_scripts"]["reformer-export"]
    assert callable(EntryPoint("reformer-export", target, "console_scripts").load())


def test_the_runtime_is_for_the_user_to_choose(metadata: Message) -> None:
    plain = {
        requirement.split(">")[0].strip()
        for requirement in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in requirement
    }
    assert {"torch", "onnx"} <= plain
    assert not plain & {"onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx"}
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"onnxruntime", "gpu", "tensorrt-rtx", "text", "test", "dev"} <= extras


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tests_run_the_checkout(package: str) -> None:
    """They do not run an installed copy of it, nor another checkout."""
    assert str(PACKAGES[package]) in importlib.import_module(package).__path__
