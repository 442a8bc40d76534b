"""The files that model.onnx refers to, checked before anything reads them.

A runtime resolves an external tensor's `location` against the model's folder. A malicious model
may name ../../etc/passwd, or a length of a terabyte. So every tensor of the file is checked:
initializers, sparse ones, attributes, subgraphs, function bodies, training graphs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer_export.errors import ArtifactError
from reformer_export.host.optional import require

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

_PACKED_BITS = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}


def load_graph(path: Path) -> ModelProto:
    """Parse model.onnx without its external data; raises ArtifactError if it is not a model."""
    onnx = require("onnx", purpose="reading model.onnx")
    message = require("google.protobuf.message", purpose="reading model.onnx", package="protobuf")
    try:
        model: ModelProto = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except (message.DecodeError, ValueError) as error:
        raise ArtifactError(f"{path} is not an ONNX model: export it again") from error
    if not model.HasField("graph"):
        raise ArtifactError(f"{path} holds no graph: export the model again")
    return model


def check_external_data(model_path: Path, listed: Collection[str] | None = None) -> dict[str, int]:
    """Check every external tensor of a model; returns the external files' names and sizes.

    A location must be the plain name of a regular file in the model's folder, and no link to a file
    outside. If `listed` (the manifest's files) is given, it must be one of them. The tensor's bytes
    must lie inside the file. Raises ArtifactError, which names the tensor.
    """
    model_path = Path(model_path)
    model = load_graph(model_path)
    external = model_path.parent.resolve()
    sizes: dict[str, int] = {}
    for tensor in tensors(model):
        if not tensor.external_data and tensor.data_location != tensor.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        where = f"tensor {tensor.name!r} of {model_path.name}"
        name = entries.get("location", "")
        if listed is not None and name not in listed:
            raise ArtifactError(
                f"{where} keeps its data in {name!r}, which is no file of this artifact: "
                "do not use it, export the model again"
            )
        if name not in sizes:
            sizes[name] = contained_file(external, name, f"{where}: its data file").stat().st_size
        _check_extent(tensor, entries, sizes[name], where)
    return sizes


def contained_file(folder: Path, name: str, what: str) -> Path:
    """The path `folder`/`name` of a regular file that, with links resolved, is inside the folder.

    `folder` is already resolved. Raises ArtifactError (`what` describes the file) for a name with
    separators, a missing file, a link to a path outside the folder, a folder or a device.
    """
    if not plain_name(name):
        raise ArtifactError(
            f"{what} {name!r} is not a plain file name inside the folder: do not use this artifact"
        )
    path = folder / name
    try:
        resolved = path.resolve(strict=True)
    except FileNotFoundError as error:
        raise ArtifactError(f"{what} {name!r} is missing from {folder}: export again") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: links form a loop
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{what} {name!r} cannot be read: {reason}") from error
    if not resolved.is_relative_to(folder):
        raise ArtifactError(
            f"{what} {name!r} is a link that leaves the folder (to {resolved}): "
            "copy the file into the folder"
        )
    if not resolved.is_file():
        raise ArtifactError(f"{what} {name!r} is not a regular file: export again")
    return path


def plain_name(name: str) -> bool:
    """True if a name, joined to a folder, stays in that folder on any operating system."""
    return (
        name not in ("", ".", "..")
        and not any(character in "/\\:" for character in name)
        and name.isprintable()
    )


def tensors(message: Any) -> Iterator[TensorProto]:
    """Every TensorProto at any depth of a protobuf message, including the message itself."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
        return
    for _, value in message.ListFields():
        if hasattr(value, "ListFields"):
            yield from tensors(value)
        elif not isinstance(value, (str, bytes, int, float)):  # a repeated field
            for item in value:
                if not hasattr(item, "ListFields"):
                    break
                yield from tensors(item)


def tensor_bytes(tensor: TensorProto) -> int:
    """The size of the tensor's raw data in bytes, from its type and shape."""
    from onnx import TensorProto, helper

    name = TensorProto.DataType.Name(tensor.data_type)
    if name == "STRING":
        raise ValueError("strings cannot be external")
    width = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    bits: int = math.prod(tensor.dims) * _PACKED_BITS.get(name, width * 8)
    return (bits + 7) // 8


def _check_extent(tensor: TensorProto, entries: dict[str, str], size: int, where: str) -> None:
    try:
        offset = _count(entries.get("offset", "0"))
        needed = tensor_bytes(tensor)
        length = _count(entries["length"]) if "length" in entries else needed
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{where} has a malformed offset, length or type: {error}") from error
    if any(dim < 0 for dim in tensor.dims) or length < needed:
        raise ArtifactError(
            f"{where} has shape {list(tensor.dims)}, {needed} bytes, and declares {length}: "
            "the artifact is damaged, export the model again"
        )
    if offset + length > size:
        raise ArtifactError(
            f"{where} wants bytes {offset} to {offset + length} of {entries['location']!r}, "
            f"which has {size}: the artifact is damaged, export the model again"
        )


def _count(text: str) -> int:
    """A decimal count as onnx writes it; int() would also accept signs, spaces and underscores."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a count of bytes")
    return int(text)
