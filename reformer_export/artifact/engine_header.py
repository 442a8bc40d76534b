"""The header of an engine, which can be read without a GPU.

The layout is not documented, but was observed in engines of TensorRT-RTX 1.7: `vtrt` at offset 0,
the size of the file at 16 (8 bytes, little endian), the version at 24 (major, minor, patch, build),
a bit for each target at 32.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path

from reformer_export.errors import ArtifactError

_RTX_MAGIC = b"vtrt"
_RTX = struct.Struct("<4s12xQ4B4xI")
_TARGET_BITS = {"sm75": 1, "sm80": 2, "sm86": 4, "sm89": 8, "sm120": 16, "sm121": 32}
_REMEDY = "build it again with reformer-export to-tensorrt"


def check_header(path: Path, flavor: str, version: str, targets: Collection[str]) -> None:
    """Compare an engine's header with its record.

    The header of standard TensorRT is not known well enough; its engines are checked only by hash.

    Raises:
        ArtifactError: the file is not an engine, is truncated, or differs from the record.
    """
    if flavor != "rtx":
        return
    try:
        with path.open("rb") as file:
            head = file.read(_RTX.size)
        length = path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    if len(head) < _RTX.size or not head.startswith(_RTX_MAGIC):
        raise ArtifactError(f"{path} is not a TensorRT-RTX engine: {_REMEDY}")
    _, size, *numbers, mask = _RTX.unpack(head)
    if size != length:
        raise ArtifactError(f"{path} has {length} bytes and its header says {size}: {_REMEDY}")
    found = ".".join(map(str, numbers))
    if found != version:
        raise ArtifactError(
            f"{path} was built by TensorRT-RTX {found} and its record says {version}: {_REMEDY}"
        )
    built_for = {name for name, bit in _TARGET_BITS.items() if mask & bit}
    # A target without a known bit cannot be checked.
    recorded = {name for name in targets if name in _TARGET_BITS}
    if built_for != recorded:
        raise ArtifactError(
            f"{path} was built for {', '.join(sorted(built_for))} and its record says "
            f"{', '.join(sorted(recorded))}: {_REMEDY}"
        )
