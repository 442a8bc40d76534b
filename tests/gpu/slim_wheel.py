"""Makes a wheel of CUDA programs small: code for one GPU only, well compressed, in two parts.

    python3 -m tests.gpu.slim_wheel WHEEL --target 90 --first OUT/a --rest OUT/b

A CUDA library holds its kernels once for each GPU that it supports. The code for all GPUs except
`--target` (90 for sm_90) is filled with zeros, which compress to almost nothing; the library then
runs only on that GPU. Libraries with kernels go to `--first`, all other files to `--rest`, as
`.tar.xz`, for machines that accept only a limited size at a time. `tests.gpu.wheels` unpacks them,
in any order.
"""

from __future__ import annotations

import argparse
import io
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTION = ".nv_fatbin"

_ELF = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQ")  # up to the field with its size
_CONTAINER = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of the images
_CONTAINER_MAGIC = 0xBA55ED50
_IMAGE = struct.Struct("<HHIQ")  # kind, version, bytes of this header, bytes of the payload
_IMAGE_TARGET = 28  # place of the compute capability in an image's header
_ALIGNMENT = 8


@dataclass(frozen=True)
class Image:
    """Code for one GPU, PTX or machine code: its compute capability, and the place of its bytes."""

    target: int
    start: int
    size: int


def keep_target(library: bytearray, target: int) -> int:
    """Fill the code for other GPUs with zeros; returns the number of these bytes.

    Each container keeps its code for `target` or, without such code, for the newest older GPU.

    Raises:
        ValueError: this is not a 64-bit ELF file, or it has no kernels.
    """
    gone = 0
    for images in containers(library):
        targets = {image.target for image in images}
        older = [known for known in targets if known <= target]
        kept = target if target in targets else max(older, default=None)
        for image in images:
            if image.target != kept:
                library[image.start : image.start + image.size] = bytes(image.size)
                gone += image.size
    return gone


def containers(library: bytes | bytearray) -> Iterator[list[Image]]:
    """The images of each container of kernels in an ELF file; raises as `keep_target` does."""
    place, size = _section(library)
    end = place + size
    while place + _CONTAINER.size <= end:
        magic, _, header, length = _CONTAINER.unpack_from(library, place)
        if magic != _CONTAINER_MAGIC:
            place += _ALIGNMENT  # padding between containers
            continue
        yield list(_images(library, place + header, place + header + length))
        place += header + length


def has_kernels(library: bytes | bytearray) -> bool:
    """True if it is an ELF file with kernels for GPUs."""
    try:
        _section(library)
    except ValueError:
        return False
    return True


def _images(library: bytes | bytearray, place: int, end: int) -> Iterator[Image]:
    while place + _IMAGE.size <= end:
        _, _, header, payload = _IMAGE.unpack_from(library, place)
        (target,) = struct.unpack_from("<I", library, place + _IMAGE_TARGET)
        yield Image(target, place + header, payload)
        if header + payload == 0:
            raise ValueError("an image of no size: this is another layout than the one known here")
        place += header + payload


def _section(library: bytes | bytearray) -> tuple[int, int]:
    """The place and the size in bytes of the section with the kernels."""
    if library[:5] != b"\x7fELF\x02" or len(library) < _ELF.size:
        raise ValueError("this is no 64-bit ELF file")
    header = _ELF.unpack_from(library)
    table, entry, count, names = header[6], header[11], header[12], header[13]
    sections = [_SECTION_HEADER.unpack_from(library, table + i * entry) for i in range(count)]
    wanted = SECTION.encode() + b"\0"
    for name, _, _, _, offset, size in sections:
        at = sections[names][4] + name
        if library[at : at + len(wanted)] == wanted:
            return offset, size
    raise ValueError(f"this library has no {SECTION}: there are no kernels in it")


def slim(wheel: Path, target: int, first: Path, rest: Path) -> list[Path]:
    """Write the parts of a wheel; returns them."""
    stem = wheel.name.partition("-cp")[0]
    for folder in (first, rest):
        folder.mkdir(parents=True, exist_ok=True)
    with_kernels = first / f"{stem}.kernels.tar.xz"
    without = rest / f"{stem}.rest.tar.xz"
    with (
        zipfile.ZipFile(wheel) as archive,
        tarfile.open(with_kernels, "w:xz", preset=6) as kernels,
        tarfile.open(without, "w:xz", preset=6) as others,
    ):
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            content = bytearray(archive.read(entry))
            heavy = has_kernels(content)
            if heavy:
                keep_target(content, target)
            member = tarfile.TarInfo(entry.filename)
            member.size = len(content)
            member.mode = (entry.external_attr >> 16) & 0o777 or 0o644
            (kernels if heavy else others).addfile(member, io.BytesIO(content))
    return [with_kernels, without]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command above."""
    parser = argparse.ArgumentParser(prog="tests.gpu.slim_wheel", description="Slim a wheel.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--target", type=int, default=90, help="the GPU to keep: 90 for sm_90")
    parser.add_argument("--first", type=Path, required=True, help="where the kernels go")
    parser.add_argument("--rest", type=Path, required=True, help="where all else goes")
    options = parser.parse_args(arguments)
    for path in slim(options.wheel, options.target, options.first, options.rest):
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
