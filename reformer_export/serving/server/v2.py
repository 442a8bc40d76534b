"""The V2 inference protocol ("Open Inference Protocol") over HTTP, with its extension for binary
tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import TensorSpec
from reformer_export.serving.server.errors import RequestError
from reformer_export.serving.server.json_bodies import read_object, write_json

BINARY_HEADER = "Inference-Header-Content-Length"
"""The size of the JSON part of a body; binary tensors follow it."""

_VERSION = "1"
_TYPES = {
    "bool": "BOOL",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
}
_INTEGERS = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
}
"""The types of token ids and masks; `Signature.check` converts them."""


@dataclass(frozen=True)
class InferRequest:
    """A request: the inputs by name, and which outputs to return and how.

    Attributes:
        outputs: the names of the outputs; True for those that are returned as bytes.
    """

    id: str | None
    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, bool]


def server_metadata(version: str) -> dict[str, Any]:
    """The answer to GET /v2."""
    return {
        "name": "reformer-export",
        "version": version,
        "extensions": ["binary_tensor_data"],
    }


def model_metadata(artifact: Artifact, name: str, platform: str) -> dict[str, Any]:
    """The answer to GET /v2/models/NAME."""
    signature = artifact.signature
    return {
        "name": name,
        "versions": [_VERSION],
        "platform": platform,
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
    }


def parse(body: bytes, json_size: str | None, known: tuple[TensorSpec, ...]) -> InferRequest:
    """Read the body of an infer request; `json_size` is the header `BINARY_HEADER`.

    Raises:
        RequestError: the body is malformed, or it asks for an output that is not among `known`.
    """
    size = len(body)
    if json_size is not None:
        if not re.fullmatch(r"[0-9]{1,12}", json_size) or int(json_size) > len(body):
            raise _bad(f"the header {BINARY_HEADER} is {json_size!r}: give a number of bytes")
        size = int(json_size)
    document = read_object(body[:size])
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise _bad("id must be a string")
    binary = memoryview(body)[size:]
    inputs: dict[str, NDArray[Any]] = {}
    for entry in _entries(document, "inputs"):
        name, used = entry.get("name"), _binary_size(entry)
        if not isinstance(name, str) or name in inputs:
            raise _bad(f"inputs: each needs its own name, found {name!r}")
        if used is not None and used > len(binary):
            raise _bad(f"{name}: binary_data_size is {used}, and {len(binary)} bytes are left")
        inputs[name] = _array(name, entry, None if used is None else binary[:used])
        binary = binary[used or 0 :]
    if len(binary):
        raise _bad(f"{len(binary)} bytes after the JSON part belong to no input")
    return InferRequest(request_id, inputs, _outputs(document, known))


def answer(
    name: str, request: InferRequest, outputs: Mapping[str, NDArray[Any]]
) -> tuple[bytes, list[memoryview]]:
    """The JSON part of the response, and the binary tensors that follow it."""
    tensors: list[dict[str, Any]] = []
    blobs: list[memoryview] = []
    for output, as_bytes in request.outputs.items():
        array = np.ascontiguousarray(outputs[output])
        tensor: dict[str, Any] = {
            "name": output,
            "shape": list(array.shape),
            "datatype": _TYPES[array.dtype.name],
        }
        if as_bytes:
            blobs.append(array.reshape(-1).view(np.uint8).data)
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        else:
            flat = array.ravel()
            tensor["data"] = flat if flat.dtype.name != "bfloat16" else flat.astype(np.float32)
        tensors.append(tensor)
    document = {"model_name": name, "model_version": _VERSION, "outputs": tensors}
    if request.id is not None:
        document["id"] = request.id
    return write_json(document), blobs


def _bad(message: str) -> RequestError:
    return RequestError(400, message)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [axis if isinstance(axis, int) else -1 for axis in spec.axes]
    return {"name": spec.name, "datatype": _TYPES[spec.dtype], "shape": shape}


def _entries(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _bad(f"{key} must be a list of objects")
    return found


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("parameters", {})
    if not isinstance(found, dict):
        raise _bad("parameters must be an object")
    return found


def _binary_size(entry: Mapping[str, Any]) -> int | None:
    size = _parameters(entry).get("binary_data_size")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise _bad(f"binary_data_size must be a number of bytes, found {size!r}")
    return size


def _array(name: str, entry: Mapping[str, Any], data: memoryview | None) -> NDArray[Any]:
    datatype = entry.get("datatype")
    dtype = _INTEGERS.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise _bad(f"{name}: datatype is {datatype!r}: give INT64")
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise _bad(f"{name}: shape must be a list of sizes, found {str(shape)[:80]}")
    try:
        if data is not None:
            return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)
        return _numbers(entry.get("data"), dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise _bad(f"{name}: the data are not {datatype} of shape {shape}: {error}") from error


def _numbers(data: Any, dtype: Any) -> NDArray[Any]:
    """A flat or nested list as an array; ValueError if it is not of whole numbers that fit."""
    array = np.asarray(data)
    if array.size and array.dtype.kind not in "biu":
        raise ValueError(f"found {array.dtype}")
    cast = array.astype(dtype)
    if not np.array_equal(cast, array):
        raise ValueError("a number is too large")
    return cast


def _outputs(document: Mapping[str, Any], known: tuple[TensorSpec, ...]) -> dict[str, bool]:
    names = [spec.name for spec in known]
    binary = _parameters(document).get("binary_data_output", False)
    if document.get("outputs") is None:
        return dict.fromkeys(names, binary is True)
    found: dict[str, bool] = {}
    for entry in _entries(document, "outputs"):
        name = entry.get("name")
        if name not in names:
            raise _bad(f"the model has no output {name!r}: it returns {', '.join(names)}")
        found[name] = _parameters(entry).get("binary_data", binary) is True
    return found
