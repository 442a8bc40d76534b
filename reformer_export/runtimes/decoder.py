"""What every decoder does: a prompt fills a cache, every step extends it by a token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact.signature import Signature
from reformer_export.errors import InputError
from reformer_export.runtimes.decoder_cache import Array, Cache, CacheLayout

Logits = NDArray[np.float32]


class Decoder(ABC):
    """A causal language model with a cache.

    Attributes:
        name: short and stable ("onnxruntime").
        description: versions, threads and kernels.
        signature: of the model.
        layout: what its caches consist of.
    """

    name: str
    description: str
    signature: Signature
    layout: CacheLayout

    def prefill(
        self, prompts: Sequence[NDArray[np.int64]], *, capacity: int
    ) -> tuple[Logits, Cache]:
        """The logits after each prompt, `[batch, vocab_size]`, and the cache of all.

        Prompts of one length are run together, others one after another: padding would change the
        numbers.

        Args:
            prompts: token ids `[length]` each, checked.
            capacity: the tokens that the cache shall have room for.

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
            tokens: `[batch]`, token ids.
            cache: changed: it then holds these tokens too.

        Raises:
            InputError: the cache is full, of another model or of another batch.
            InferenceError: the runtime failed.
        """
        self._check(tokens, cache)
        logits = self._run_step(tokens, cache)
        cache.past_length += 1
        return logits

    @abstractmethod
    def close(self) -> None:
        """Give back the memory. The decoder is of no use afterwards."""

    @abstractmethod
    def _run_prompts(self, ids: NDArray[np.int64]) -> tuple[Logits, Mapping[str, Array]]:
        """`[batch, length]` -> logits `[batch, vocab_size]`, and the cache's tensors by name."""

    @abstractmethod
    def _run_step(self, tokens: NDArray[np.int64], cache: Cache) -> Logits:
        """`[batch]` -> logits `[batch, vocab_size]`; changes the tensors of the cache."""

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
                "take cache.with_capacity(...)"
            )
