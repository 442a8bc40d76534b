"""A client of the V2 protocol that sends many requests at once and measures each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import uvloop
from numpy.typing import NDArray

from reformer_export.errors import InferenceError

_BINARY = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Load:
    """What the clients saw.

    Attributes:
        seconds: from the first request to the last response.
        client_seconds: the processor time of the clients.
        latencies: `[requests]` seconds, in no particular order.
    """

    seconds: float
    client_seconds: float
    latencies: NDArray[np.float64]


def run_load(url: str, name: str, requests: Sequence[NDArray[np.int64]], clients: int) -> Load:
    """Send each of `requests` (`[length]`) once; `clients` connections send them in turn.

    Raises:
        InferenceError: the server refused a request.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load(url, name, requests, clients))


async def _load(url: str, name: str, requests: Sequence[NDArray[np.int64]], clients: int) -> Load:
    waiting = iter(requests)
    latencies: list[float] = []
    start, own_start = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(url, f"/v2/models/{name}/infer", waiting, latencies))
    seconds, own = time.perf_counter() - start, time.process_time() - own_start
    return Load(seconds, own, np.array(latencies))


async def _client(
    url: str, path: str, waiting: Iterator[NDArray[np.int64]], latencies: list[float]
) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        for ids in waiting:
            start = time.perf_counter()
            writer.write(_request(path, ids))
            status, size = _head((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            body = await reader.readexactly(size)
            if status != 200:
                raise InferenceError(f"the server answered {status}: {body[:200].decode()}")
            latencies.append(time.perf_counter() - start)
    finally:
        writer.close()


def _request(path: str, ids: NDArray[np.int64]) -> bytes:
    data = np.ascontiguousarray(ids, "<i8").tobytes()
    tensor = {
        "name": "input_ids",
        "shape": [1, len(ids)],
        "datatype": "INT64",
        "parameters": {"binary_data_size": len(data)},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{_BINARY}: {len(text)}\r\n"
    return f"{head}Content-Length: {len(text) + len(data)}\r\n\r\n".encode() + text + data


def _head(text: str) -> tuple[int, int]:
    """The status and the size of the body."""
    first, *lines = text.strip().split("\r\n")
    fields = {key.lower(): value for key, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), int(fields["content-length"])
