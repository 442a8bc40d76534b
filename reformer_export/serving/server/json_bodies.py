"""Reads and writes JSON documents; arrays of NumPy are written as lists."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from reformer_export.host.optional import require
from reformer_export.serving.server.errors import RequestError


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; RequestError if it is none."""
    orjson = _orjson()
    try:
        document = orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RequestError(400, "the body must be a JSON object")
    return document


def write_json(document: Mapping[str, Any]) -> bytes:
    """A document as JSON; numbers that JSON cannot express become null."""
    orjson = _orjson()
    text: bytes = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return text


@cache
def _orjson() -> Any:
    return require("orjson", purpose="serving", package="reformer-export[serve]")
