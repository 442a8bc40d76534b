"""A made-up library with kernels for GPUs, in the layout of the CUDA compiler."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .slim_wheel import SECTION

_HEADER, _ENTRY = 64, 64


def library(containers: Sequence[Sequence[tuple[int, bytes]]], section: str = SECTION) -> bytes:
    """An ELF file. Each container holds pairs of a compute capability and code for that GPU."""
    content = b"".join(_container(images) for images in containers)
    names = b"\0" + section.encode() + b"\0.shstrtab\0"
    parts = [(1, content), (2 + len(section), names)]
    body, table = b"", bytes(_ENTRY)
    for name, data in parts:
        fields = struct.pack("<IIQQQQ", name, 1, 0, 0, _HEADER + len(body), len(data))
        table += fields.ljust(_ENTRY, b"\0")
        body += data
    start = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    numbers = (3, 62, 1, 0, 0, _HEADER + len(body), 0, _HEADER, 0, 0, _ENTRY, 3, 2)
    return start + struct.pack("<HHIQQQIHHHHHH", *numbers) + body + table


def _container(images: Sequence[tuple[int, bytes]]) -> bytes:
    packed = b"".join(_image(target, code) for target, code in images)
    # Padding follows: the next container starts at a multiple of 8.
    whole = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(packed)) + packed
    return whole + bytes(-len(whole) % 8) + bytes(8)


def _image(target: int, code: bytes) -> bytes:
    start = struct.pack("<HHIQ", 2, 0x101, 64, len(code)).ljust(28, b"\0")
    return (start + struct.pack("<I", target)).ljust(64, b"\0") + code
