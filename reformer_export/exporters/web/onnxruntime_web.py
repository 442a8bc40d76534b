"""The npm package onnxruntime-web, of one version with known contents."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from reformer_export.errors import ExportError, MissingDependencyError, UsageError

NAME, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZ"
    "ClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
"""The hash of the package, written as in npm's package-lock.json."""

FILES = {
    "wasm": (
        "ort.wasm.min.mjs",
        "ort-wasm-simd-threaded.mjs",
        "ort-wasm-simd-threaded.wasm",
    ),
    "webgpu": (
        "ort.jspi.min.mjs",
        "ort-wasm-simd-threaded.jspi.mjs",
        "ort-wasm-simd-threaded.jspi.wasm",
    ),
}
"""The package's files for each engine: its API, and WebAssembly with the script that loads it."""

_ARCHIVE = f"{NAME}-{VERSION}.tgz"


def find_package(package: Path | None = None) -> Path:
    """The package's .tgz, with the known contents.

    Args:
        package: the file; if None, it is downloaded with `npm pack`, once for a user.

    Raises:
        UsageError: `package` is not the package of this version.
        MissingDependencyError: the package must be downloaded, and npm is not installed.
        ExportError: npm could not download it, or the cache cannot be written.
    """
    if package is None:
        return _downloaded()
    _check(package)
    return package


def copy_files(package: Path, engines: Sequence[str], folder: Path) -> None:
    """Copy the package's files for these engines, keys of `FILES`, into `folder`."""
    with tarfile.open(package) as archive:
        for engine in engines:
            for name in FILES[engine]:
                member = archive.extractfile(f"package/dist/{name}")
                if member is None:
                    raise ExportError(f"{package} has no file dist/{name}")
                (folder / name).write_bytes(member.read())


def cached_package() -> Path:
    """Where the downloaded package is kept for the next call."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "reformer-export" / _ARCHIVE


def _downloaded() -> Path:
    path = cached_package()
    if path.is_file() and _integrity(path) == INTEGRITY:
        return path
    remedy = f"or give its file {_ARCHIVE} with --onnxruntime-web"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            command = ["npm", "pack", f"{NAME}@{VERSION}", "--pack-destination", scratch]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                reason = (done.stderr.strip().splitlines() or ["no message"])[0]
                raise ExportError(f"npm cannot download {NAME} {VERSION} ({reason}): {remedy}")
            _check(Path(scratch) / _ARCHIVE)
            (Path(scratch) / _ARCHIVE).replace(path)
    except FileNotFoundError as error:
        raise MissingDependencyError(
            f"a page needs the npm package {NAME}, and npm is not installed: install npm, {remedy}"
        ) from error
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror}; set XDG_CACHE_HOME, {remedy}"
        ) from error
    return path


def _check(archive: Path) -> None:
    """Raise UsageError if the file is not the package with the known contents."""
    try:
        found = _integrity(archive)
    except OSError as error:
        raise UsageError(f"cannot read {archive}: {error.strerror}") from error
    if found != INTEGRITY:
        raise UsageError(
            f"{archive} is not the npm package {NAME} {VERSION}: its hash is {found[:20]}..., not "
            f"{INTEGRITY[:20]}...; get it with npm pack {NAME}@{VERSION}"
        )


def _integrity(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return f"sha512-{base64.b64encode(digest).decode()}"
