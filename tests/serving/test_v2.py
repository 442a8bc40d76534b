"""The V2 inference protocol: the numbers of the bare runner, and clear errors."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reformer_export.runtimes.base import Runner

from .served import Server, binary_request, json_request, read_logits


def ids(length: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng((length, batch)).integers(0, 258, (batch, length))


def test_metadata(server: Server) -> None:
    assert server.request("GET", "/v2").document["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/small", "/v2/models/small/versions/1"):
        described = server.request("GET", path).document
        assert described["name"] == "small"
        assert described["platform"].startswith("onnxruntime ")
        assert described["inputs"] == [
            {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]},
        ]
        assert described["outputs"] == [
            {"name": "logits", "datatype": "FP32", "shape": [-1, -1, 258]}
        ]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/small/ready"):
        assert server.request("GET", path).status == 200


def test_json_and_binary_give_the_numbers_of_the_runner(server: Server, runner: Runner) -> None:
    tokens = ids(30, 2)
    mask = np.ones_like(tokens)
    mask[1, 20:] = 0
    wanted = runner.run({"input_ids": tokens, "attention_mask": mask})["logits"]
    request = json_request(tokens)
    flat = {"name": "attention_mask", "shape": [2, 30], "datatype": "INT32"}
    request["inputs"].append(flat | {"data": mask.ravel().tolist()})
    request["id"] = "an id"
    document = server.infer(request).document
    (output,) = document["outputs"]
    assert (document["id"], output["shape"], output["datatype"]) == ("an id", [2, 30, 258], "FP32")
    np.testing.assert_array_equal(np.array(output["data"], np.float32), wanted.ravel())
    np.testing.assert_array_equal(server.logits(tokens[:1]), wanted[:1])


def test_concurrent_requests_of_all_lengths_get_their_own_numbers(
    server: Server, runner: Runner
) -> None:
    lengths = [*range(1, 30), 100, 107, 108, 109, 500, 504, 1000, 2048, 4092]
    with ThreadPoolExecutor(16) as clients:
        found = list(clients.map(lambda length: server.logits(ids(length)), lengths))
    for length, logits in zip(lengths, found, strict=True):
        wanted = runner.run({"input_ids": ids(length)})["logits"]
        np.testing.assert_array_equal(logits, wanted)


TENSOR = {"name": "input_ids", "shape": [1, 2], "datatype": "INT64"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        ([], "the body must be a JSON object"),
        ({}, "inputs must be a list of objects"),
        ({"inputs": [1]}, "inputs must be a list of objects"),
        ({"inputs": []}, "input_ids is missing"),
        ({"inputs": [{"name": 3}]}, "each needs its own name"),
        ({"inputs": [TENSOR | {"data": [1, 2]}] * 2}, "each needs its own name"),
        ({"inputs": [TENSOR | {"name": "x", "data": [1, 2]}]}, "the model has no input 'x'"),
        ({"inputs": [TENSOR | {"datatype": "FP32", "data": [1, 2]}]}, "give INT64"),
        ({"inputs": [TENSOR | {"datatype": ["INT64"], "data": [1, 2]}]}, "give INT64"),
        ({"inputs": [TENSOR | {"shape": [-1, 2], "data": [1, 2]}]}, "a list of sizes"),
        ({"inputs": [TENSOR | {"shape": "12", "data": [1, 2]}]}, "a list of sizes"),
        ({"inputs": [TENSOR | {"shape": [2**62, 2**62], "data": [1]}]}, "the data are not"),
        ({"inputs": [TENSOR]}, "the data are not"),
        ({"inputs": [TENSOR | {"data": [1, 2, 3]}]}, "the data are not INT64 of shape [1, 2]"),
        ({"inputs": [TENSOR | {"data": [1, 0.5]}]}, "the data are not"),
        ({"inputs": [TENSOR | {"data": [[1], [2, 3]]}]}, "the data are not"),
        ({"inputs": [TENSOR | {"data": [1, 2**80]}]}, "the data are not"),
        ({"inputs": [TENSOR | {"datatype": "INT8", "data": [1, 257]}]}, "a number is too large"),
        ({"inputs": [TENSOR | {"data": [1, 258]}]}, "is 258, outside the vocabulary 0..257"),
        ({"inputs": [TENSOR | {"shape": [1, 0], "data": []}]}, "an empty sequence"),
        ({"inputs": [TENSOR | {"shape": [0, 1], "data": []}]}, "an empty batch"),
        ({"inputs": [TENSOR | {"shape": [2], "data": [1, 2]}]}, "must be [batch, sequence]"),
        ({"inputs": [TENSOR | {"data": [1, 2], "parameters": 1}]}, "must be an object"),
        (
            {"inputs": [TENSOR | {"parameters": {"binary_data_size": 16}}]},
            "binary_data_size is 16, and 0 bytes are left",
        ),
        ({"inputs": [TENSOR | {"parameters": {"binary_data_size": True}}]}, "a number of bytes"),
        ({"inputs": [TENSOR | {"data": [1, 2]}], "outputs": [{"name": "x"}]}, "no output 'x'"),
        ({"inputs": [TENSOR | {"data": [1, 2]}], "id": 1}, "id must be a string"),
        (json_request(np.zeros((1, 4097), int)), "a sequence of 4097 tokens"),
        (json_request(np.zeros((50, 101), int)), "has 5400 tokens"),
    ],
)
def test_malformed_requests_are_refused(server: Server, body: Any, said: str) -> None:
    reply = server.infer(body)
    assert (reply.status, said in reply.error) == (400, True), reply.error


@pytest.mark.parametrize("size", ["x", "-1", "1e3", "99999999", "9" * 5000])
def test_a_wrong_header_is_refused(server: Server, size: str) -> None:
    body, _ = binary_request(ids(3))
    assert server.infer(body, {"Inference-Header-Content-Length": size}).status == 400


def test_bytes_that_belong_to_no_input_are_refused(server: Server) -> None:
    body, headers = binary_request(ids(3))
    assert "belong to no input" in server.infer(body + b"!", headers).error


@given(data=st.data())
@settings(max_examples=25)
def test_damaged_bodies_get_an_answer(server: Server, data: st.DataObject) -> None:
    """Whatever the client sends, the server answers 200 or 400, and goes on."""
    body, headers = binary_request(ids(5))
    edited = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(edited) - 1))
        edited[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert server.infer(bytes(edited), headers).status in (200, 400)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["inputs", "outputs", "name", "shape", "datatype", "data", "id"])
                | st.text(max_size=3),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@settings(max_examples=25)
def test_other_documents_are_refused(server: Server, document: Any) -> None:
    reply = server.infer(json.dumps(document).encode("utf-8", "replace"))
    assert reply.status == 400
    assert reply.error


def test_unknown_paths_and_models_are_not_found(server: Server) -> None:
    assert "this server has 'small'" in server.request("GET", "/v2/models/other").error
    assert server.request("POST", "/v2/models/other/infer", {}).status == 404
    assert server.request("GET", "/v2/models/small/versions/2").status == 404
    assert server.request("GET", "/nothing").status == 404
    assert server.request("GET", "/v2/models/small/infer").status == 405


def test_a_large_body_is_refused(server: Server) -> None:
    reply = server.infer(b" " * (2**20 + 1))
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert "larger than 1048576 bytes" in reply.error


def test_the_metrics_count(server: Server) -> None:
    name = 'reformer_requests_total{endpoint="infer",status="200"}'
    read_logits(server.infer(*binary_request(ids(3))))
    before = server.metric(name), server.metric('reformer_tokens_total{kind="read"}')
    server.logits(ids(7, 2))
    assert server.metric(name) == before[0] + 1
    assert server.metric('reformer_tokens_total{kind="read"}') == before[1] + 14
    assert server.metric("reformer_workers_ready") == 1
    assert server.metric("reformer_queue") == 0
