"""The real server in its own process, and a client."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ..tools.artifact_fixtures import environment
from ..tools.model_fixtures import TINY

SERVED: dict[str, Any] = TINY | {"max_position_embeddings": 4096, "axial_pos_shape": [64, 64]}
"""A byte-level model for 1 to 4,092 tokens; its padded lengths are multiples of 12."""

BINARY = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def error(self) -> str:
        """The message of an error, of either protocol."""
        found = self.document["error"]
        message: str = found["message"] if isinstance(found, dict) else found
        return message


class Server:
    """A server that is ready."""

    def __init__(self, process: subprocess.Popen[str], started: dict[str, Any]) -> None:
        self.process = process
        self.started = started
        self.address = urlsplit(started["url"]).netloc
        self.name: str = started["name"]

    @property
    def endpoint(self) -> tuple[str, int]:
        host, port = self.address.split(":")
        return host, int(port)

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=timeout)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Send one request on its own connection; `body` is bytes or a document."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return Reply(
                response.status,
                {key.lower(): value for key, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    def infer(self, body: Any, headers: dict[str, str] | None = None) -> Reply:
        return self.request("POST", f"/v2/models/{self.name}/infer", body, headers)

    def complete(self, **fields: Any) -> Reply:
        return self.request("POST", "/v1/completions", fields)

    def logits(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """The logits of `ids` [batch, length], sent and received as bytes."""
        return read_logits(self.infer(*binary_request(ids)))

    def metric(self, name: str) -> float:
        """The value of a metric, with its labels in the name."""
        text = self.request("GET", "/metrics").body.decode()
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        return float(line.split()[1])

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [
            int(pid)
            for pid in children.split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


def binary_request(ids: NDArray[Any]) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a request in binary."""
    data = np.ascontiguousarray(ids, "<i8").tobytes()
    tensor = {
        "name": "input_ids",
        "shape": list(ids.shape),
        "datatype": "INT64",
        "parameters": {"binary_data_size": len(data)},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return text + data, {BINARY: str(len(text))}


def json_request(ids: NDArray[Any]) -> dict[str, Any]:
    tensor = {"name": "input_ids", "shape": list(ids.shape), "datatype": "INT64"}
    return {"inputs": [tensor | {"data": ids.tolist()}]}


def read_logits(reply: Reply) -> NDArray[np.float32]:
    """The only output of a response in binary."""
    assert reply.status == 200, reply.body
    size = int(reply.headers[BINARY.lower()])
    (tensor,) = json.loads(reply.body[:size])["outputs"]
    return np.frombuffer(reply.body[size:], "<f4").reshape(tensor["shape"])


@contextmanager
def serving(artifact: Path, *options: object, **variables: str) -> Iterator[Server]:
    """Start a server on a free port; it is killed at the end."""
    command = [sys.executable, "-m", "reformer_export", "serve", str(artifact), "--port", "0"]
    with subprocess.Popen(
        [*command, "--json", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | variables,
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            while (line := process.stdout.readline()) and line != "}\n":
                lines.append(line)
            started = json.loads("".join([*lines, line]))
            assert "url" in started, started
            yield Server(process, started)
        finally:
            process.kill()


def stop(server: Server) -> tuple[int, str]:
    """Send SIGTERM; returns the exit code and what the server wrote to stderr."""
    server.process.send_signal(signal.SIGTERM)
    _, errors = server.process.communicate(timeout=120)
    return server.process.returncode, errors
