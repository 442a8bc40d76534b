"""Writes one archive with an artifact and everything that a device needs to run it."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import platform as host
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import CUDA, MANIFEST
from reformer_export.artifact.staging import atomic_file
from reformer_export.errors import ExportError, RuntimeUnavailableError, UsageError
from reformer_export.host.cpp_program import PROGRAM, built_folder
from reformer_ops.core.errors import NativeLibraryError

PLATFORMS = {
    "linux-x86_64": "make cpp",
    "linux-x86_64-cuda": "make cpp",
    "linux-aarch64": "make cross-aarch64",
}
"""Platforms, and the command that builds the runtime for each. Those that end in -cuda
are for NVIDIA GPUs. CUDA's own libraries are not packed: they belong to the device."""

PROVIDERS = ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so")
"""Libraries of onnxruntime-gpu, in the folder of libonnxruntime.so."""

KERNELS = "libreformer_ops_ort.so"
ONNXRUNTIME = "libonnxruntime.so"
SUMS = "SHA256SUMS"

# It works for every name of the folder and does not depend on the environment.
_SCRIPT = """#!/bin/sh
# Runs the artifact in this folder: ./run --text-file FILE, or ./run --help
here=$(dirname "$(readlink -f "$0")")
exec "$here/bin/reformer-run" "$here/artifact"{device} "$@"
"""


@dataclass(frozen=True)
class PackageResult:
    """The archive; `files` are its files, in a single folder with the name of the archive."""

    path: Path
    platform: str
    bytes: int
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as a document."""
        return {
            "package": str(self.path),
            "platform": self.platform,
            "bytes": self.bytes,
            "files": list(self.files),
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """The result as (label, text) lines for people."""
        yield "package", f"{self.path}, {self.bytes / 2**20:.1f} MiB for {self.platform}"
        yield "holds", ", ".join(name for name in self.files if not name.startswith("artifact/"))
        folder = _folder(self.path)
        yield "use", f"tar xf {self.path.name} && {folder}/run --text-file FILE"


def package(
    artifact: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    platform: str,
    runtime_dir: str | os.PathLike[str] | None = None,
    onnxruntime: str | os.PathLike[str] | None = None,
) -> PackageResult:
    """Pack an artifact, `reformer-run`, our kernels and ONNX Runtime into a .tar.gz.

    The same contents give the same bytes.

    Args:
        artifact: the folder.
        out: NAME.tar.gz, which unpacks to NAME/. An existing file is replaced. The file is written
            completely or not at all.
        platform: a name of `PLATFORMS`.
        runtime_dir: the result of `make cpp` or `make cross-aarch64`: bin/reformer-run and, for a
            different machine, lib/libreformer_ops_ort.so and lib/libonnxruntime.so.*. The build
            folder of the checkout if None.
        onnxruntime: a libonnxruntime to pack instead of the one that is found.

    Raises:
        UsageError: the platform is unknown, `out` is not a .tar.gz file in an existing folder, or
            the platform has a GPU and the artifact has no kernels for GPUs.
        ArtifactError: the folder is not a valid artifact.
        RuntimeUnavailableError: a file for the archive is missing; the message says how to get it.
        ExportError: the archive cannot be written.
    """
    if platform not in PLATFORMS:
        raise UsageError(f"unknown platform {platform!r}: choose one of {', '.join(PLATFORMS)}")
    path = Path(out)
    if not path.name.removesuffix(".tar.gz") or not path.name.endswith(".tar.gz"):
        raise UsageError(f"{path}: name a .tar.gz file")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: its folder does not exist, or it is one: name a file")
    opened = Artifact.open(artifact)
    if _on_cuda(platform) and CUDA not in opened.formats:
        raise UsageError(
            f"{opened.path} has no kernels for GPUs: add them with reformer-export add-kernels "
            f"{opened.path}"
        )
    contents = dict(_contents(opened, platform, runtime_dir, onnxruntime))
    try:
        with atomic_file(path) as file:
            names = _write(file, _folder(path), contents, _script(platform))
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror or error}; nothing was written"
        ) from error
    return PackageResult(path, platform, path.stat().st_size, names)


def _folder(path: Path) -> str:
    return path.name.removesuffix(".tar.gz")


def _contents(
    artifact: Artifact,
    platform: str,
    runtime_dir: str | os.PathLike[str] | None,
    onnxruntime: str | os.PathLike[str] | None,
) -> Iterator[tuple[str, Path]]:
    """Pairs of a name in the archive and a file."""
    machine = _machine(platform)
    root = built_folder(machine) if runtime_dir is None else Path(runtime_dir)
    remedy = f"make it with `{PLATFORMS[platform]}` in a checkout of reformer-export"
    for name in (MANIFEST, *artifact.manifest.files):
        yield f"artifact/{name}", artifact.path / name
    runner = root / "bin" / PROGRAM
    if not runner.is_file():
        raise RuntimeUnavailableError(
            f"there is no {PROGRAM} for {platform} in {root / 'bin'}: {remedy}, "
            "or name the folder it was installed to with --runtime-dir"
        )
    yield f"bin/{PROGRAM}", runner
    yield f"lib/{KERNELS}", _kernels(root, machine, remedy)
    library = _onnxruntime(root, machine) if onnxruntime is None else Path(onnxruntime)
    if library is None or not library.is_file():
        raise RuntimeUnavailableError(
            f"there is no {ONNXRUNTIME} for {platform} in {root / 'lib'}: {remedy}, "
            "or name the library with --onnxruntime"
        )
    name = library.name if library.name.startswith(ONNXRUNTIME) else ONNXRUNTIME
    yield f"lib/{name}", library
    if _on_cuda(platform):
        yield from _providers(library)
    for licence in _licences(root, library):
        yield f"licenses/onnxruntime/{licence.name}", licence


def _providers(library: Path) -> Iterator[tuple[str, Path]]:
    for name in PROVIDERS:
        if not (library.parent / name).is_file():
            raise RuntimeUnavailableError(
                f"there is no {name} beside {library}, so that library is for CPUs: name the one "
                "of onnxruntime-gpu with --onnxruntime"
            )
        yield f"lib/{name}", library.parent / name


def _on_cuda(platform: str) -> bool:
    return platform.endswith("-cuda")


def _machine(platform: str) -> str:
    return platform.removesuffix("-cuda")


def _script(platform: str) -> str:
    return _SCRIPT.format(device=" --device cuda" if _on_cuda(platform) else "")


def _is_this_machine(platform: str) -> bool:
    return platform == f"{host.system().lower()}-{host.machine()}"


def _kernels(root: Path, platform: str, remedy: str) -> Path:
    built = root / "lib" / KERNELS
    if built.is_file():
        return built
    reason = f"there is no {KERNELS} for {platform} in {built.parent}: {remedy}"
    if not _is_this_machine(platform):
        raise RuntimeUnavailableError(reason)
    from reformer_ops import library_path

    try:
        return library_path("ort")
    except NativeLibraryError as error:
        raise RuntimeUnavailableError(str(error)) from error


def _onnxruntime(root: Path, platform: str) -> Path | None:
    folders = [root / "lib"]
    if _is_this_machine(platform):
        spec = importlib.util.find_spec("onnxruntime")  # without loading it
        for place in (spec.submodule_search_locations if spec else None) or ():
            folders.append(Path(place) / "capi")
    for folder in folders:
        if found := sorted(folder.glob(f"{ONNXRUNTIME}*")):
            return found[-1]
    return None


def _licences(root: Path, library: Path) -> Iterator[Path]:
    names = ("LICENSE", "ThirdPartyNotices.txt")
    for folder in (root / "share/licenses/onnxruntime", library.parent.parent):
        found = [folder / name for name in names if (folder / name).is_file()]
        if len(found) == len(names):
            yield from found
            return


def _write(file: IO[bytes], folder: str, contents: dict[str, Path], script: str) -> tuple[str, ...]:
    """Write the archive, without times and owners; returns the names of its files."""
    sums = []
    # The header of the gzip file also has no name and no time.
    with (
        gzip.GzipFile("", "wb", fileobj=file, mtime=0, compresslevel=6) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):

        def add(name: str, data: IO[bytes], size: int, mode: int) -> None:
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode = size, mode
            archive.addfile(entry, data)

        for name, path in contents.items():
            with path.open("rb") as source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
                size = source.tell()
                source.seek(0)
                add(name, source, size, 0o755 if name.startswith("bin/") else 0o644)
            sums.append(f"{digest}  {name}\n")
        for name, text, mode in (("run", script, 0o755), (SUMS, "", 0o644)):
            data = (text or "".join(sums)).encode()
            add(name, BytesIO(data), len(data), mode)
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    return (*contents, "run", SUMS)
