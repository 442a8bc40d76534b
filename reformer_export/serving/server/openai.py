"""The completions protocol of OpenAI: /v1/completions and /v1/models."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact.signature import INPUT_IDS, Signature
from reformer_export.errors import ReformerError
from reformer_export.generation.sampling import Sampling
from reformer_export.inference.text import TextCodec
from reformer_export.inference.text_stream import TextStream
from reformer_export.serving.server.errors import RequestError
from reformer_export.serving.server.messages import Generate, NewToken
from reformer_export.serving.server.scheduler import TokenStream

_MOST_PROMPTS = 128
_MOST_STOPS = 4

# Fields with a value that changes nothing; other values are refused.
_NOT_OFFERED: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (),
    "n": (1,),
    "presence_penalty": (0,),
    "suffix": ("",),
}
_FIELDS = {
    *_NOT_OFFERED,
    "max_tokens",
    "model",
    "prompt",
    "repetition_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_k",
    "top_p",
    "user",
}


@dataclass(frozen=True)
class Completion:
    """A request for completions, checked.

    Attributes:
        prompts: `[length]` int64 each.
        stop: texts that end a completion.
        usage_in_stream: whether the last event of a stream has the numbers of tokens.
    """

    prompts: tuple[NDArray[np.int64], ...]
    max_tokens: int
    sampling: Sampling
    stop: tuple[str, ...]
    stream: bool
    usage_in_stream: bool
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def sequences(self) -> list[Generate]:
        """What the workers are asked for."""
        return [
            Generate(0, prompt, self.max_tokens, self.sampling, row, None)
            for row, prompt in enumerate(self.prompts)
        ]


def parse(
    document: Mapping[str, Any], name: str, signature: Signature, codec: TextCodec | None
) -> Completion:
    """Check a request.

    Args:
        document: the body.
        name: the name of the model.
        signature: the limits of the model.
        codec: converts texts; None if the artifact has no known tokenizer.

    Raises:
        RequestError: a field is unknown or has a wrong value.
    """
    if unknown := sorted(document.keys() - _FIELDS):
        raise RequestError(400, f"unknown field {unknown[0]!r}")
    for key, allowed in _NOT_OFFERED.items():
        value = document.get(key)
        if value is not None and value not in allowed:
            raise RequestError(400, f"{key} is not offered by this server: leave it out")
    if (asked := document.get("model", name)) != name:
        raise RequestError(404, f"there is no model {asked!r}: this server has {name!r}")
    prompts = _prompts(document.get("prompt"), signature, codec)
    max_tokens = _integer(document, "max_tokens", 16, 1)
    if (longest := max(map(len, prompts)) + max_tokens) > signature.max_length:
        raise RequestError(
            400,
            f"the prompt and max_tokens are {longest} tokens; the model takes "
            f"{signature.max_length}",
        )
    temperature = _number(document, "temperature", 1.0)
    seed = document.get("seed")
    try:
        sampling = Sampling(
            repetition_penalty=_number(document, "repetition_penalty", 1.0),
            temperature=temperature,
            top_k=_integer(document, "top_k", 0, 0),
            top_p=_number(document, "top_p", 1.0),
            seed=secrets.randbits(32) if seed is None else _integer(document, "seed", 0, 0),
        )
    except ReformerError as error:  # it names the option of the command line
        raise RequestError(400, str(error).lstrip("-")) from error
    options = document.get("stream_options") or {}
    if not isinstance(options, dict):
        raise RequestError(400, "stream_options must be an object")
    stream = document.get("stream") or False
    if not isinstance(stream, bool):
        raise RequestError(400, "stream must be true or false")
    return Completion(
        prompts=tuple(prompts),
        max_tokens=max_tokens,
        sampling=sampling,
        stop=_stop(document.get("stop")),
        stream=stream,
        usage_in_stream=options.get("include_usage") is True,
    )


def models(name: str, created: int) -> dict[str, Any]:
    """The answer to GET /v1/models."""
    entry = {"id": name, "object": "model", "created": created, "owned_by": "reformer-export"}
    return {"object": "list", "data": [entry]}


@dataclass(frozen=True)
class Piece:
    """New tokens of a completion and their text, which may be empty.

    Attributes:
        finish_reason: why this is the last piece: "stop" or "length"; else None.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None


class Choice:
    """The text of one completion while it is generated."""

    def __init__(
        self,
        tokens: TokenStream,
        prompt: NDArray[np.int64],
        codec: TextCodec | None,
        stop: Sequence[str],
    ) -> None:
        self._tokens = tokens
        self._text: TextStream | None = codec.stream(prompt.tolist()) if codec else None
        self._stop = stop
        self._held = ""
        self.new_tokens = 0

    async def pieces(self) -> AsyncIterator[Piece]:
        """The pieces, until one is the last."""
        async for token in self._tokens:
            self.new_tokens += 1
            piece = self._add(token)
            yield piece
            if piece.finish_reason is not None:
                return

    async def whole(self) -> Piece:
        """All pieces as one."""
        pieces = [piece async for piece in self.pieces()]
        return Piece(
            "".join(piece.text for piece in pieces),
            tuple(token for piece in pieces for token in piece.token_ids),
            pieces[-1].finish_reason,
        )

    def _add(self, token: NewToken) -> Piece:
        if self._text is not None and token.finished != "stop":
            self._held += self._text.add(token.token)
        if self._text is not None and token.finished is not None:
            self._held += self._text.end()
        ends = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if ends:
            return Piece(self._held[: min(ends)], (token.token,), "stop")
        # Text that may be the beginning of a stop text is held back.
        kept = 0 if token.finished else _overlap(self._held, self._stop)
        cut = len(self._held) - kept
        shown, self._held = self._held[:cut], self._held[cut:]
        return Piece(shown, (token.token,), token.finished)


def document(
    request: Completion, name: str, choices: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A response, or an event of a stream, without the numbers of tokens."""
    return {
        "id": request.id,
        "object": "text_completion",
        "created": request.created,
        "model": name,
        "choices": choices,
    }


def choice(index: int, piece: Piece) -> dict[str, Any]:
    """An entry of `choices`; `token_ids` is an addition of ours."""
    return {
        "index": index,
        "text": piece.text,
        "token_ids": piece.token_ids,
        "logprobs": None,
        "finish_reason": piece.finish_reason,
    }


def usage(request: Completion, choices: Sequence[Choice]) -> dict[str, int]:
    """The numbers of tokens."""
    read = sum(map(len, request.prompts))
    new = sum(each.new_tokens for each in choices)
    return {"prompt_tokens": read, "completion_tokens": new, "total_tokens": read + new}


def _prompts(prompt: Any, signature: Signature, codec: TextCodec | None) -> list[NDArray[np.int64]]:
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt and _is_int(prompt[0])):
        prompt = [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise RequestError(400, "prompt must be a text, a list of token ids, or a list of these")
    if len(prompt) > _MOST_PROMPTS:
        raise RequestError(400, f"{len(prompt)} prompts: give at most {_MOST_PROMPTS}")
    found = []
    for each in prompt:
        if isinstance(each, str):
            if codec is None:
                raise RequestError(400, "this model has no known tokenizer: give token ids")
            ids = codec.encode(each.encode())
        elif isinstance(each, list) and all(map(_is_int, each)):
            ids = np.asarray(each) if each else np.zeros(0, np.int64)
        else:
            raise RequestError(400, "a prompt must be a text or a list of token ids")
        found.append(signature.check({INPUT_IDS: ids[None]})[INPUT_IDS][0])
    return found


def _stop(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or []
    right = isinstance(texts, list) and all(isinstance(text, str) and text for text in texts)
    if not right or len(texts) > _MOST_STOPS:
        raise RequestError(400, f"stop must be a text or a list of at most {_MOST_STOPS} texts")
    return tuple(texts)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(document: Mapping[str, Any], key: str, default: int, least: int) -> int:
    value = document.get(key)
    if value is None:
        return default
    if not _is_int(value) or value < least:
        raise RequestError(400, f"{key} must be a whole number of at least {least}")
    found: int = value
    return found


def _number(document: Mapping[str, Any], key: str, default: float) -> float:
    value = document.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(400, f"{key} must be a number")
    return float(value)


def _overlap(text: str, stops: Sequence[str]) -> int:
    """The length of the longest end of `text` with which one of `stops` begins."""
    longest = max(map(len, stops), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0
