"""OpenAI's completions: the tokens of `generate`, streamed or not, and clear errors."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from reformer_export.generation.generator import Generator

from .served import Reply, Server

OFFSET = 2  # of the bytes in a vocabulary of 258


def prompt(length: int) -> list[int]:
    tokens: list[int] = np.random.default_rng(length).integers(2, 258, length).tolist()
    return tokens


def events(reply: Reply) -> list[dict[str, Any]]:
    """The events of a stream, without the last, which is [DONE]."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    parts = reply.body.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def test_the_model_is_listed(server: Server) -> None:
    (model,) = server.request("GET", "/v1/models").document["data"]
    assert (model["id"], model["object"]) == ("small", "model")


def test_greedy_tokens_are_those_of_generate(server: Server, generator: Generator) -> None:
    wanted = generator.generate(prompt(20), max_new_tokens=9)[0].tolist()
    document = server.complete(prompt=prompt(20), max_tokens=9, temperature=0).document
    (choice,) = document["choices"]
    assert choice["token_ids"] == wanted
    assert choice["finish_reason"] == "length"
    assert document["usage"] == {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "total_tokens": 29,
    }


def test_concurrent_completions_get_the_tokens_that_they_get_alone(
    server: Server, generator: Generator
) -> None:
    """They join and leave the batch of the worker at different times."""
    requests = [
        {
            "prompt": prompt(length),
            "max_tokens": 5 + length % 17,
            "temperature": 0.7 if length % 2 else 0.0,
            "top_k": 50,
            "top_p": 0.9,
            "repetition_penalty": 1.1,
            "seed": length,
        }
        for length in (1, 2, 5, 12, 13, 24, 25, 40, 99, 200, 300, 1000)
    ]
    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(lambda request: server.complete(**request), requests))
    for request, reply in zip(requests, replies, strict=True):
        settings = {key: request[key] for key in ("temperature", "top_k", "top_p", "seed")}
        wanted = generator.generate(
            request["prompt"],
            max_new_tokens=request["max_tokens"],
            repetition_penalty=1.1,
            **settings,
        )
        assert reply.document["choices"][0]["token_ids"] == wanted[0].tolist()


def test_a_list_of_prompts_is_a_batch_of_generate(server: Server, generator: Generator) -> None:
    prompts = [prompt(5), prompt(30)]
    wanted = generator.generate(prompts, max_new_tokens=6, temperature=1.0, seed=7, stop=())
    reply = server.complete(prompt=prompts, max_tokens=6, seed=7)
    found = [choice["token_ids"] for choice in reply.document["choices"]]
    assert found == wanted.tolist()
    assert [choice["index"] for choice in reply.document["choices"]] == [0, 1]


def test_texts_and_streams_agree(server: Server) -> None:
    fields = {"prompt": ["In the beginning", "ä"], "max_tokens": 12, "temperature": 1, "seed": 3}
    whole = server.complete(**fields).document
    received = events(
        server.complete(**fields, stream=True, stream_options={"include_usage": True})
    )
    assert received[-1]["usage"] == whole["usage"]
    assert received[-1]["choices"] == []
    for index, choice in enumerate(whole["choices"]):
        own = [
            event["choices"][0] for event in received[:-1] if event["choices"][0]["index"] == index
        ]
        assert "".join(each["text"] for each in own) == choice["text"]
        assert [each["finish_reason"] for each in own] == [None] * 11 + ["length"]
        data = bytes(max(0, token - OFFSET) for token in choice["token_ids"] if token >= OFFSET)
        assert choice["text"] == data.decode("utf-8", "replace")


def test_a_stop_text_ends_a_completion_and_is_left_out(server: Server) -> None:
    fields = {"prompt": "In the beginning", "max_tokens": 40, "temperature": 1, "seed": 3}
    text = server.complete(**fields).document["choices"][0]["text"]
    stop = text[10:13]
    assert len(stop) == 3
    expected = text[: text.index(stop)]
    (choice,) = server.complete(**fields, stop=["\0never", stop]).document["choices"]
    assert (choice["text"], choice["finish_reason"]) == (expected, "stop")
    streamed = events(server.complete(**fields, stop=stop, stream=True))
    assert "".join(event["choices"][0]["text"] for event in streamed) == expected
    assert streamed[-1]["choices"][0]["finish_reason"] == "stop"


def test_without_a_seed_completions_differ(server: Server) -> None:
    texts = {str(server.complete(prompt="a", max_tokens=12).document["choices"]) for _ in range(3)}
    assert len(texts) == 3


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({}, 400, "prompt must be"),
        ({"prompt": ""}, 400, "an empty sequence"),
        ({"prompt": []}, 400, "prompt must be"),
        ({"prompt": [[]]}, 400, "an empty sequence"),
        ({"prompt": [1, "a"]}, 400, "a list of token ids"),
        ({"prompt": [1, True]}, 400, "a list of token ids"),
        ({"prompt": [300]}, 400, "outside the vocabulary"),
        ({"prompt": [2**70]}, 400, "a list of token ids"),
        ({"prompt": [2**63]}, 400, "outside the vocabulary"),
        ({"prompt": [-1]}, 400, "outside the vocabulary"),
        ({"prompt": ["a"] * 129}, 400, "at most 128"),
        ({"prompt": "a", "model": "gpt"}, 404, "there is no model 'gpt'"),
        ({"prompt": "a", "max_tokens": 0}, 400, "max_tokens must be"),
        ({"prompt": "a", "max_tokens": "9"}, 400, "max_tokens must be"),
        ({"prompt": "a", "max_tokens": 4092}, 400, "the model takes 4092"),
        ({"prompt": ["a" * 1000] * 6}, 400, "has 6096 tokens"),
        ({"prompt": "a", "temperature": -1}, 400, "temperature -1.0: give 0 or more"),
        ({"prompt": "a", "temperature": "x"}, 400, "temperature must be a number"),
        ({"prompt": "a", "top_p": 0}, 400, "top-p 0.0"),
        ({"prompt": "a", "top_k": -1}, 400, "top_k must be"),
        ({"prompt": "a", "seed": -1}, 400, "seed must be"),
        ({"prompt": "a", "stream": "yes"}, 400, "stream must be true or false"),
        ({"prompt": "a", "stop": [""]}, 400, "stop must be"),
        ({"prompt": "a", "stop": ["a"] * 5}, 400, "stop must be"),
        ({"prompt": "a", "logprobs": 1}, 400, "logprobs is not offered"),
        ({"prompt": "a", "echo": True}, 400, "echo is not offered"),
        ({"prompt": "a", "n": 2}, 400, "n is not offered"),
        ({"prompt": "a", "temprature": 1}, 400, "unknown field 'temprature'"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_requests_are_refused(
    server: Server, fields: dict[str, Any], status: int, said: str, stream: bool
) -> None:
    reply = server.complete(**{"stream": stream, **fields})
    assert (reply.status, said in reply.error) == (status, True), reply.error
