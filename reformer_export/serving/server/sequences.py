"""Continues several sequences together: they join and leave between two steps of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reformer_export.generation.generator import Generator
from reformer_export.runtimes.decoder_cache import Cache
from reformer_export.serving.server.messages import Generate, NewToken


@dataclass
class _Sequence:
    """A sequence that has not ended; `tokens` contains its prompt."""

    request: Generate
    tokens: list[int]
    stop: frozenset[int]
    random: np.random.Generator


class Sequences:
    """The sequences that a worker is generating, one row each in a common cache.

    The tokens of a sequence do not depend on the other sequences.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._sequences: list[_Sequence] = []
        self._cache: Cache | None = None

    def __len__(self) -> int:
        return len(self._sequences)

    def add(self, request: Generate) -> NewToken:
        """Process a prompt; returns its first token."""
        new = request.prompt.size + request.max_new_tokens - 1
        capacity = min(new, self._generator.signature.max_length)
        logits, cache = self._generator.decoder.prefill([request.prompt], capacity=capacity)
        sequence = _Sequence(
            request,
            request.prompt.tolist(),
            self._generator.stop if request.stop is None else request.stop,
            request.sampling.generators(request.row + 1)[-1],
        )
        token = _choose(sequence, logits[0])
        if token.finished is None:
            held = [] if self._cache is None else [self._cache]
            self._cache = Cache.joined([*held, cache])
            self._sequences.append(sequence)
        return token

    def step(self) -> list[NewToken]:
        """The next token of every sequence; sequences that end leave."""
        if self._cache is None:
            return []
        last = np.array([sequence.tokens[-1] for sequence in self._sequences], np.int64)
        logits = self._generator.decoder.step(last, self._cache)
        tokens = [
            _choose(sequence, scores)
            for sequence, scores in zip(self._sequences, logits, strict=True)
        ]
        self._keep([row for row, token in enumerate(tokens) if token.finished is None])
        return tokens

    def remove(self, job: int) -> None:
        """Forget the sequence of a job, if it has not ended."""
        rows = enumerate(self._sequences)
        self._keep([row for row, sequence in rows if sequence.request.job != job])

    def clear(self) -> list[int]:
        """Forget all sequences; returns their jobs."""
        jobs = [sequence.request.job for sequence in self._sequences]
        self._keep([])
        return jobs

    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self._sequences):
            return
        self._sequences = [self._sequences[row] for row in rows]
        self._cache = self._cache.select(rows) if self._cache is not None and rows else None


def _choose(sequence: _Sequence, logits: NDArray[np.float32]) -> NewToken:
    """Choose and append the next token of a sequence."""
    request = sequence.request
    token = request.sampling.choose(logits, sequence.tokens, sequence.random)
    sequence.tokens.append(token)
    finished = None
    if token in sequence.stop:
        finished = "stop"
    elif len(sequence.tokens) == request.prompt.size + request.max_new_tokens:
        finished = "length"
    return NewToken(request.job, token, finished)
