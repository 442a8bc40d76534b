"""Killed workers, signals, clients that leave, limits and the token, with a server of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from reformer_export.generation.generator import Generator
from reformer_export.runtimes.base import Runner

from ..cli.invocation import child
from ..tools.model_fixtures import Fixtures
from .served import Reply, Server, binary_request, json_request, read_logits, serving, stop

pytestmark = pytest.mark.slow

LONGEST = 4092


def ids(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((length, seed)).integers(0, 258, (1, length))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def stream(server: Server, prompt: list[int], tokens: int) -> Iterator[int]:
    """The greedy tokens of a completion, as they arrive."""
    connection = server.connect()
    fields = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(fields))
    response = connection.getresponse()
    assert response.status == 200
    while (line := response.readline().strip()) != b"data: [DONE]":
        if line:
            yield from json.loads(line.removeprefix(b"data: "))["choices"][0]["token_ids"]
    connection.close()


def test_a_killed_worker_is_replaced_and_its_requests_are_answered(
    artifact: Path, runner: Runner, generator: Generator
) -> None:
    wanted = runner.run({"input_ids": ids(LONGEST)})["logits"]
    tokens = generator.generate([5], max_new_tokens=400, stop=())[0].tolist()
    with serving(artifact, "--workers", 2) as server, ThreadPoolExecutor(12) as clients:
        first = set(server.workers())
        assert len(first) == 2
        running = stream(server, [5], 400)
        received = [next(running) for _ in range(5)]
        answers = [clients.submit(server.logits, ids(LONGEST)) for _ in range(12)]
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        received += running
        assert received == tokens
        for answer in answers:
            np.testing.assert_array_equal(answer.result(), wanted)
        until(lambda: server.metric("reformer_workers_ready") == 2)
        assert set(server.workers()).isdisjoint(first)
        assert server.metric("reformer_worker_restarts_total") == 2
        np.testing.assert_array_equal(server.logits(ids(LONGEST)), wanted)


def test_a_request_whose_workers_die_three_times_gets_an_error(artifact: Path) -> None:
    with serving(artifact, "--workers", 1) as server, ThreadPoolExecutor(1) as clients:
        answer = clients.submit(server.complete, prompt=[5], max_tokens=4000, temperature=0)
        for attempt in (1, 2, 3):
            until(lambda n=attempt: server.metric("reformer_queue_seconds_count") == n)
            (pid,) = server.workers()
            os.kill(pid, signal.SIGKILL)
        reply = answer.result()
        assert reply.status == 500
        assert "3 worker processes ended" in reply.error
        until(lambda: server.request("GET", "/v2/health/ready").status == 200)
        assert server.complete(prompt=[5], max_tokens=2).status == 200


def test_sigterm_under_load_loses_no_accepted_request(artifact: Path, runner: Runner) -> None:
    wanted = {n: runner.run({"input_ids": ids(n)})["logits"] for n in (1, 100, 2000)}
    outcomes: Counter[str] = Counter()

    def client(number: int) -> None:
        length = (1, 100, 2000)[number % 3]
        body, headers = binary_request(ids(length))
        while True:
            connection = server.connect()
            try:
                connection.connect()
            except ConnectionRefusedError:
                outcomes["refused"] += 1
                return
            try:
                connection.request("POST", "/v2/models/small/infer", body, headers)
                response = connection.getresponse()
                names = {key.lower(): value for key, value in response.getheaders()}
                logits = read_logits(Reply(response.status, names, response.read()))
                equal = np.array_equal(logits, wanted[length])
                outcomes["right" if equal else "wrong"] += 1
            except OSError:
                outcomes["lost"] += 1
            finally:
                connection.close()

    with serving(artifact, "--name", "small") as server:
        tokens = ThreadPoolExecutor(1).submit(lambda: list(stream(server, [5], 1500)))
        clients = [threading.Thread(target=client, args=(number,)) for number in range(24)]
        for thread in clients:
            thread.start()
        time.sleep(1)
        code, errors = stop(server)
        for thread in clients:
            thread.join()
        assert len(tokens.result()) == 1500
    assert code == 0
    assert "Traceback" not in errors
    assert outcomes.keys() == {"right", "refused"}, outcomes
    assert outcomes["refused"] == len(clients)


def test_while_stopping_it_is_not_ready_but_answers(artifact: Path) -> None:
    with serving(artifact, "--drain", 2) as server:
        connection = server.connect()
        connection.request("GET", "/v2/health/ready")
        response = connection.getresponse()
        assert response.read() == b'{"ready":true}'
        server.process.send_signal(signal.SIGINT)
        until(lambda: server.request("GET", "/v2/health/ready").status == 503)
        assert server.logits(ids(3)).shape == (1, 3, 258)
        connection.request("GET", "/v2/health/live")
        response = connection.getresponse()
        assert (response.status, response.getheader("connection")) == (200, "close")
        assert server.process.wait(timeout=60) == 0


def test_clients_that_leave_free_the_worker(artifact: Path) -> None:
    with serving(artifact, "--max-streams", 1) as server:
        for _ in range(3):
            running = stream(server, [5], 4000)
            next(running)
            running.close()
            with socket.create_connection(server.endpoint) as client:
                body = json.dumps({"prompt": [5], "max_tokens": 4000}).encode()
                head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
                client.sendall(head.encode() + b"\r\n\r\n" + body)
                time.sleep(0.1)
            with socket.create_connection(server.endpoint) as client:
                client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le")
        assert server.complete(prompt=[5], max_tokens=2).status == 200
        assert server.metric("reformer_queue") == 0
        assert stop(server)[0] == 0


def test_a_full_queue_and_a_long_wait_are_errors(artifact: Path) -> None:
    options = ("--max-queue", 2, "--queue-timeout", 1.5)
    with serving(artifact, *options) as server, ThreadPoolExecutor(3) as clients:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGSTOP)
        request = binary_request(ids(3))
        running = clients.submit(server.infer, *request)
        until(lambda: server.metric("reformer_batch_rows_count") == 1)
        waiting = [clients.submit(server.infer, *request) for _ in range(2)]
        until(lambda: server.metric("reformer_queue") == 2)
        refused = server.infer(*request)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "2 requests are waiting, which is the limit" in refused.error
        for each in waiting:
            assert each.result().status == 503
            assert "no worker was free within 1.5 seconds" in each.result().error
        os.kill(worker, signal.SIGCONT)
        assert running.result().status == 200
        assert server.infer(*request).status == 200


def test_a_worker_that_hangs_is_replaced(artifact: Path) -> None:
    with serving(artifact, "--run-timeout", 1) as server, ThreadPoolExecutor(2) as clients:
        (worker,) = server.workers()
        running = stream(server, [5], 4000)
        next(running)
        os.kill(worker, signal.SIGSTOP)
        reply = server.infer(*binary_request(ids(3)))
        assert (reply.status, "more than 1 s" in reply.error) == (504, True)
        until(lambda: server.workers() not in ([], [worker]))
        assert clients.submit(server.infer, *binary_request(ids(3))).result().status == 200
        # The completion was cut off, and its stream says so.
        with pytest.raises(KeyError, match="choices"):
            list(running)


def test_the_token(artifact: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    variables = {"REFORMER_SERVE_TOKEN": "another"}
    with serving(artifact, "--token-file", file, **variables) as server:
        path = "/v2/models/" + server.name
        assert server.request("GET", "/v2/health/ready").status == 200
        for wrong in ("", "Bearer another", "Bearer", "Basic s3cret", "Bearer s3cret2"):
            reply = server.request("GET", path, headers={"Authorization": wrong})
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert server.request("POST", f"{path}/infer", b"x").status == 401
        assert server.request("GET", "/metrics").status == 401
        for right in ("Bearer s3cret", "bearer  s3cret"):
            assert server.request("GET", path, headers={"Authorization": right}).status == 200
    with serving(artifact, **variables) as server:
        assert server.request("GET", "/v2").status == 401
        right = "Bearer another"
        assert server.request("GET", "/v2", headers={"Authorization": right}).status == 200


def test_a_slow_body_is_given_up(artifact: Path) -> None:
    """A client that never sends its body does not keep the server from stopping."""
    with serving(artifact, "--body-timeout", 1) as server:
        with socket.create_connection(server.endpoint) as client:
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
            )
            assert b"408" in client.recv(4096)
        code, _ = stop(server)
        assert code == 0


def test_a_model_that_does_not_generate(fixtures: Fixtures) -> None:
    with serving(fixtures.artifact("text-classification").path) as server:
        assert server.started["generates"] is False
        reply = server.complete(prompt="a")
        assert (reply.status, "does not generate" in reply.error) == (404, True)
        inputs = ids(9)
        (output,) = server.infer(json_request(inputs)).document["outputs"]
        assert output["shape"] == [1, 3]


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1", 2),
        (["--runtime", "aoti"], "holds no aoti", 2),
        (["--token-file", "/nowhere"], "cannot read a token", 2),
        (["--name", "a/b"], "give a name without '/'", 2),
        (["--workers", "0"], "0 is not in the range", 2),
    ],
)
def test_a_server_that_cannot_start(
    artifact: Path, options: list[str], said: str, code: int
) -> None:
    done = child("serve", artifact, "--port", 0, *options, capture_output=True)
    assert done.returncode == code
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert said in line
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_an_error(artifact: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = child("serve", artifact, "--port", port, capture_output=True)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
