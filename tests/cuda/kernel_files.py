"""Kernel files made by hand: the stand-in accepts them, and nothing is compiled."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reformer_export.exporters.cuda.export import KIND

Json = dict[str, Any]

ATTRIBUTES = {"chunk_length": 8, "num_chunks_before": 1, "num_chunks_after": 0, "causal": 1}
SIZES = {"heads": 2, "head_dim": 4}
ARGUMENTS = ["query", "key", "value", "mask", "length", "output", None, None]


def cubin(entry: str, target: int) -> bytes:
    """The parts of a cubin that the stand-in reads: no section, and one segment with a name."""
    name = f".text.{entry}\0".encode()
    ident = b"\x7fELF\x02\x01\x01\x33\x07".ljust(16, b"\0")
    fields = (2, 190, 129, 0, 64, 0, target, 64, len(name), 1, 0, 0, 0)
    return ident + struct.pack("<HHIQQQIHHHHHH", *fields) + name


def ptx(entry: str, target: str) -> bytes:
    """The parts of PTX that the stand-in reads. `target` is "sm_80", or "sm_90a"."""
    return f".version 8.0\n.target {target}\n.visible .entry {entry}(\n)\n".encode()


def amount(times: int = 1, multiplier: int = 1, divisor: int = 1) -> Json:
    return {"times": times, "multiplier": multiplier, "divisor": divisor}


def launch(image: str, entry: str = "kernel", **changed: Any) -> Json:
    return {
        "entry": entry,
        "image": image,
        "arguments": ARGUMENTS,
        "programs": amount(2, divisor=8),
        "threads": 64,
        "shared_bytes": 1024,
        "shortest": 1,
        "longest": 2**31 - 1,
    } | changed


def program(*launches: Json, target: int = 80, **changed: Any) -> Json:
    """A program of ChunkAttention; `changed` replaces entries."""
    return {
        "operator": "ChunkAttention",
        "version": 1,
        "dtype": "float32",
        "target": target,
        "portable": True,
        "attributes": ATTRIBUTES,
        "sizes": SIZES,
        "scratch": {},
        "launches": list(launches),
    } | changed


def kernels_for(*targets: str, **changed: Any) -> tuple[list[Json], dict[str, bytes]]:
    """A program with one kernel for each target ("sm80", "sm90a"), and the images."""
    programs = []
    images = {}
    for name in targets:
        number = int(name.removeprefix("sm").removesuffix("a"))
        programs.append(
            program(launch(name), target=number, portable=not name.endswith("a"), **changed)
        )
        images[f"{name}.cubin"] = cubin("kernel", number)
        images[f"{name}.ptx"] = ptx("kernel", name.replace("sm", "sm_"))
    return programs, images


def document(programs: Iterable[Json], **changed: Any) -> Json:
    return {"schema_version": 1, "domain": "reformer", "programs": list(programs)} | changed


def encoded(document: Any, images: Mapping[str, bytes], **changed: Any) -> bytes:
    """A file with these contents; `changed` replaces entries of its header."""
    header: Json = {"__metadata__": {KIND: json.dumps(document)}}
    place = 0
    for name, data in images.items():
        header[name] = {
            "dtype": "U8",
            "shape": [len(data)],
            "data_offsets": [place, place + len(data)],
        }
        place += len(data)
    text = json.dumps(header | changed).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(images.values())


def write(path: Path, programs: Iterable[Json], images: Mapping[str, bytes]) -> Path:
    path.write_bytes(encoded(document(programs), images))
    return path
