"""The throughput and the latency of the server for requests of mixed lengths."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.load import run_load
from reformer_export import open_runner, to_onnx
from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import ATTENTION_MASK, INPUT_IDS, require_tokens
from reformer_export.errors import RuntimeUnavailableError
from reformer_export.host.machine import usable_cores
from reformer_export.serving.batching import Batching
from reformer_export.serving.server.settings import Limits

HEADER = (
    "workers x threads",
    "clients",
    "tokens/s",
    "of the bare runner",
    "without clients",
    "p50 ms",
    "p99 ms",
)

_MOST_REQUESTS = 4000
_FEWEST_REQUESTS = 64
_REQUESTS_OF_A_CLIENT = 4  # at least
_SAMPLE = 32  # requests by which the speed of the model is estimated

Requests = list[NDArray[np.int64]]


@dataclass(frozen=True)
class Row:
    """The server's figures, each the median of all rounds, and those of the bare runner.

    Attributes:
        seconds: of a round.
        client_seconds: the time for which all cores together would compute what the clients do.
        bare_seconds: the same requests in the bare runner.
    """

    workers: int
    threads: int
    clients: int
    tokens: int
    seconds: float
    client_seconds: float
    bare_seconds: float
    p50_s: float
    p99_s: float

    @property
    def share(self) -> float:
        """The throughput, divided by that of the bare runner on the same cores."""
        return self.bare_seconds / self.seconds

    @property
    def share_without_clients(self) -> float:
        """The same, if the clients took nothing of these cores."""
        return self.bare_seconds / (self.seconds - self.client_seconds)

    def cells(self) -> list[str]:
        """The row of the table."""
        return [
            f"{self.workers} x {self.threads}",
            str(self.clients),
            f"{self.tokens / self.seconds:,.0f}",
            f"{self.share:.2f}",
            f"{self.share_without_clients:.2f}",
            f"{1e3 * self.p50_s:.0f}",
            f"{1e3 * self.p99_s:.0f}",
        ]

    def to_json(self) -> dict[str, Any]:
        """The row as a document."""
        shares = {"share": self.share, "share_without_clients": self.share_without_clients}
        return {**asdict(self), **shares}


def measure(
    checkpoint: Path,
    out: Path,
    *,
    seconds: float,
    rounds: int,
    clients: int,
    longest: int,
    progress: Callable[[str], None],
) -> list[Row]:
    """Compare the bare runner with the server, in turns, on the same requests and cores.

    Args:
        checkpoint: the model; it is exported into `out`.
        seconds: about the time that the bare runner takes for the requests of a round; their
            lengths are spread evenly on a logarithmic scale from 1 to `longest`.
        rounds: how often each is measured; the median counts.
        clients: the number of connections; fewer if the model is so slow that a round has few
            requests.
    """
    progress(f"exporting {checkpoint.name}")
    artifact = to_onnx(checkpoint, out / "artifact", verify=False, force=True)
    longest = min(longest, artifact.signature.max_length)
    cores = usable_cores()
    sample = _requests(artifact, _SAMPLE, longest)
    rate = _SAMPLE / _bare_seconds(artifact, sample, cores)
    count = min(max(int(rate * seconds), _FEWEST_REQUESTS), _MOST_REQUESTS)
    clients = min(clients, count // _REQUESTS_OF_A_CLIENT)
    made = _requests(artifact, count, longest)
    progress(f"{count} requests in a round")
    rows = []
    for workers, threads in sorted({(1, cores), (cores, 1)}):
        bare, loads = [], []
        options = ["--workers", str(workers), "--threads", str(threads)]
        with _serving(artifact.path, options) as (url, name):
            run_load(url, name, sample, clients)
            for number in range(rounds):
                progress(f"{workers} x {threads}: round {number + 1} of {rounds}")
                bare.append(_bare_seconds(artifact, made, cores))
                loads.append(run_load(url, name, made, clients))
        latencies = np.concatenate([load.latencies for load in loads])
        rows.append(
            Row(
                workers,
                threads,
                clients,
                sum(map(len, made)),
                float(np.median([load.seconds for load in loads])),
                float(np.median([load.client_seconds for load in loads])) / cores,
                float(np.median(bare)),
                float(np.quantile(latencies, 0.5)),
                float(np.quantile(latencies, 0.99)),
            )
        )
    return rows


def _requests(artifact: Artifact, count: int, longest: int) -> Requests:
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(0, np.log(longest + 1), count)).astype(int)
    vocabulary = require_tokens(artifact.signature, "bench").vocab_size
    return [rng.integers(0, vocabulary, max(1, length)) for length in lengths]


def _bare_seconds(artifact: Artifact, requests: Requests, threads: int) -> float:
    """The time of all requests in the largest batches that give the right numbers."""
    batching = Batching.of(artifact)
    groups: dict[int, Requests] = {}
    for ids in requests:
        groups.setdefault(batching.padded_length(len(ids)), []).append(ids)
    batches = []
    for padded, group in groups.items():
        rows = max(1, Limits().batch_tokens // padded)
        for first in range(0, len(group), rows):
            parts = [ids[None] for ids in group[first : first + rows]]
            masks = [np.ones_like(ids) for ids in parts]
            inputs = [
                {INPUT_IDS: ids, ATTENTION_MASK: mask}
                for ids, mask in zip(parts, masks, strict=True)
            ]
            batches.append(batching.merge(inputs))
    runner = open_runner(artifact, threads=threads)
    runner.run(batches[0])
    start = time.perf_counter()
    for batch in batches:
        runner.run(batch)
    seconds = time.perf_counter() - start
    runner.close()
    return seconds


@contextmanager
def _serving(artifact: Path, options: list[str]) -> Iterator[tuple[str, str]]:
    """The URL of a server in its own process, and the name of its model."""
    command = [sys.executable, "-m", "reformer_export", "serve", str(artifact), "--port", "0"]
    with subprocess.Popen([*command, *options, "--json"], stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None:
                raise RuntimeUnavailableError("the server has no stdout")
            text = b""
            while (line := process.stdout.readline()) and line != b"}\n":
                text += line
            if not line:
                raise RuntimeUnavailableError("the server did not start (its error is above)")
            started = json.loads(text + line)
            yield started["url"], started["name"]
        finally:
            process.terminate()
