"""Two hundred clients at once: mixed lengths, malformed bodies, clients that leave, dying workers.

REFORMER_LOAD_SECONDS in the environment makes it longer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reformer_export.generation.generator import Generator
from reformer_export.runtimes.base import Runner

from .served import Server, binary_request, read_logits, serving, stop

CLIENTS = 200
SECONDS = float(os.environ.get("REFORMER_LOAD_SECONDS", "15"))
LENGTHS = (1, 2, 3, 4, 5, 11, 12, 13, 24, 25, 60, 61, 100, 108, 250, 500, 1000, 2000, 4000, 4092)


@pytest.mark.slow
def test_every_accepted_request_is_answered_right(
    artifact: Path, runner: Runner, generator: Generator
) -> None:
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 258, (1, length)) for length in LENGTHS]
    wanted = [runner.run({"input_ids": ids})["logits"] for ids in prompts]
    tokens = generator.generate([7, 8], max_new_tokens=8)[0].tolist()
    outcomes: Counter[str] = Counter()

    def infer(server: Server, number: int) -> str:
        reply = server.infer(*binary_request(prompts[number]))
        if reply.status != 200:
            return f"infer {reply.status}"
        return "right" if np.array_equal(read_logits(reply), wanted[number]) else "wrong"

    def complete(server: Server) -> str:
        reply = server.complete(prompt=[7, 8], max_tokens=8, temperature=0)
        if reply.status != 200:
            return f"complete {reply.status}"
        return "right" if reply.document["choices"][0]["token_ids"] == tokens else "wrong"

    def leave(server: Server) -> str:
        body, headers = binary_request(prompts[-1])
        with socket.create_connection(server.endpoint) as client:
            size, (name, value) = len(body), next(iter(headers.items()))
            head = f"POST /v2/models/small/infer HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\n"
            client.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
            client.sendall(body[: random.choice([0, size // 2, size])])
        return "left"

    def client(server: Server, seed: int) -> None:
        choose = random.Random(seed)
        while time.monotonic() < end:
            kind = choose.random()
            if kind < 0.8:
                outcomes[infer(server, choose.randrange(len(LENGTHS)))] += 1
            elif kind < 0.9:
                outcomes[complete(server)] += 1
            elif kind < 0.95:
                outcomes[leave(server)] += 1
            else:
                text = json.dumps({"inputs": "?"})[: choose.randrange(15)].encode()
                outcomes["refused" if server.infer(text).status == 400 else "wrong"] += 1

    with serving(artifact, "--workers", 2, "--name", "small") as server:
        end = time.monotonic() + SECONDS
        threads = [threading.Thread(target=client, args=(server, n)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while time.monotonic() < end - 3:
            time.sleep(3)
            for pid in server.workers()[:1]:
                os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
        restarts = server.metric("reformer_worker_restarts_total")
        assert server.metric("reformer_queue") == 0
        code, errors = stop(server)
    assert (code, "Traceback" in errors) == (0, False), errors
    assert restarts >= 1
    assert outcomes.keys() == {"right", "left", "refused"}, outcomes
    assert outcomes["right"] > CLIENTS
