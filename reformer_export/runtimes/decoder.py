"""The base class of decoders: a prompt fills a cache, and every step adds a token to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact.signature import TokenSignature
from reformer_export.errors import InputError
from reformer_export.runtimes.decoder_cache import Array, Cache, CacheLayout

Logits = NDArray[np.float32]


class Decoder(ABC):
    """A causal language model with a cache.

    Attributes:
        name: short and stable ("onnxruntime").
        description: versions, threads and kernels.
        signature: the signature of the model.
        layout: the layout of its caches.
    """

    name: str
    description: str
    signature: TokenSignature
    layout: CacheLayout

    def prefill(
        self, prompts: Sequence[NDArray[np.int64]], *, capacity: int
    ) -> tuple[Logits, Cache]:
        """The logits after each prompt, `[batch, vocab_size]`, and one cache for all prompts.

        Prompts of the same length run together, and different lengths run one after another,
        because padding would change the results.

        Args:
            prompts: checked token ids, `[length]` for each prompt.
            capacity: the number of tokens that the cache must have room for.

        Raises:
            InferenceError: the runtime failed.
        """
        cache = Cache.empty(self.layout, len(prompts), capacity)
        logits = np.empty((len(prompts), self.signature.vocab_size), np.float32)
        by_length: dict[int, list[int]] = {}
        for row, prompt in enumerate(prompts):
            by_length.setdefault(len(prompt), []).append(row)
        for length, rows in by_length.items():
            ids = np.stack([prompts[row] for row in rows])
            logits[rows], tensors = self._run_prompts(ids)
            cache.put(rows, tensors, length)
        return logits, cache

    def step(self, tokens: NDArray[np.int64], cache: Cache) -> Logits:
        """Add one token to each sequence; returns the logits after it, `[batch, vocab_size]`.

        Args:
            tokens: token ids, `[batch]`.
            cache: the cache of the sequences; the tokens are added to it.

        Raises:
            InputError: a token is not in the vocabulary, or the cache is full, of another model or
                of another batch size.
            InferenceError: the runtime failed.
        """
        self._check(tokens, cache)
        logits = self._run_step(tokens, cache)
        cache.past_length += 1
        return logits

    @abstractmethod
    def close(self) -> None:
        """Free the memory. The decoder cannot be used afterwards."""

    @abstractmethod
    def _run_prompts(self, ids: NDArray[np.int64]) -> tuple[Logits, Mapping[str, Array]]:
        """Run `ids` `[batch, length]`; returns the logits `[batch, vocab_size]` and the tensors of
        the cache by name."""

    @abstractmethod
    def _run_step(self, tokens: NDArray[np.int64], cache: Cache) -> Logits:
        """Run `tokens` `[batch]` and change the tensors of the cache; returns the logits
        `[batch, vocab_size]`."""

    def _check(self, tokens: NDArray[np.int64], cache: Cache) -> None:
        if cache.layout.model != self.layout.model:
            raise InputError("the cache is of another model: make one with this decoder")
        if tokens.shape != (cache.batch,):
            raise InputError(
                f"a step takes one token for each of {cache.batch} sequences, found shape "
                f"{list(tokens.shape)}"
            )
        if ((tokens < 0) | (tokens >= self.signature.vocab_size)).any():
            raise InputError(
                f"the tokens {tokens.tolist()} are not all in the vocabulary "
                f"0..{self.signature.vocab_size - 1}"
            )
        longest = int(cache.past_length.max())
        if longest >= self.signature.max_length:
            raise InputError(f"the model takes at most {self.signature.max_length} tokens")
        if cache.capacity is not None and longest >= cache.capacity:
            raise InputError(
                f"the cache has room for {cache.capacity} tokens and is full: "
                "use cache.with_capacity(...)"
            )
