"""`open_generator` opens an artifact that continues sequences of tokens."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import INPUT_IDS
from reformer_export.errors import GenerationLimitError, InputError, UsageError
from reformer_export.generation.sampling import Sampling
from reformer_export.runtimes.decoder import Decoder
from reformer_export.runtimes.decoder_cache import Cache
from reformer_export.runtimes.decoders import open_decoder
from reformer_ops.core.native import Choice

Prompts = NDArray[Any] | Sequence[Any]
"""One prompt or several, as an array or as lists."""

Tokens = NDArray[np.int64]


def open_generator(
    artifact: str | os.PathLike[str] | Artifact,
    *,
    runtime: str = "auto",
    threads: int | None = None,
    ops: Choice = "auto",
) -> Generator:
    """Open an artifact for generation.

    Args:
        artifact: the folder, exported by `to_onnx` or `to_torchscript` with the task
            "text-generation-with-past", or an artifact that is already open.
        runtime: "onnxruntime", "torchscript", or "auto" for the first of them that is installed and
            whose format the artifact holds.
        threads: the maximum number of threads; if None, the runtime chooses.
        ops: "native" runs the operators with our kernels, "portable" with their standard bodies.
            "auto" follows REFORMER_OPS; if that is not set, it uses our kernels if they are
            installed.

    Raises:
        UsageError: the artifact cannot generate, or the native operators cannot run it.
        ArtifactError: the folder is not a valid artifact.
        MissingDependencyError: the runtime's package is not installed.
        NativeLibraryError: `ops` is "native", and the kernels do not load.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(Path(artifact))
    return Generator(opened, open_decoder(opened, runtime=runtime, threads=threads, ops=ops))


class Generator:
    """Continues sequences. `generate` returns all tokens at once, `stream` yields them one by one.

    Attributes:
        decoder: runs the model; the caller keeps the cache.
        stop: the default ids that end a sequence: the eos_token_id of the checkpoint's
            generation_config.json, else of its config.json.
    """

    def __init__(self, artifact: Artifact, decoder: Decoder) -> None:
        self.artifact = artifact
        self.decoder = decoder
        self.signature = artifact.signature
        self.stop, self._filler = special_ids(artifact)

    @property
    def description(self) -> str:
        """The runtime, its version, threads and kernels."""
        return self.decoder.description

    def generate(
        self,
        input_ids: Prompts,
        *,
        max_new_tokens: int = 20,
        temperature: float | None = None,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: Sequence[int] | None = None,
    ) -> Tokens:
        """The tokens that follow each prompt: `[batch, new]` int64.

        The arguments are those of `stream`. A row that ends before the others is filled with the
        pad token.

        Raises:
            GenerationLimitError: a sequence has reached the maximum length of the model; the error
                contains the tokens generated before.
        """
        steps: list[Tokens] = []
        try:
            for tokens in self.stream(
                input_ids,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
                seed=seed,
                stop=stop,
            ):
                steps.append(tokens)
        except GenerationLimitError as error:
            error.tokens = np.stack(steps, axis=1)
            raise
        return np.stack(steps, axis=1)

    def stream(
        self,
        input_ids: Prompts,
        *,
        max_new_tokens: int = 20,
        temperature: float | None = None,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: Sequence[int] | None = None,
        cache: Cache | None = None,
    ) -> Iterator[Tokens]:
        """Yield the next token of each sequence, `[batch]` int64, step by step.

        The caller may leave the loop early.

        Args:
            input_ids: prompts, `[batch, length]` or `[length]`, or a list of prompts of different
                lengths.
            max_new_tokens: the maximum number of new tokens for each prompt.
            temperature, top_k, top_p, repetition_penalty, seed: see `Sampling`; greedy by default.
            stop: ids that end a sequence, instead of `self.stop`. The id that ends a sequence is
                also yielded.
            cache: the cache that `decoder.prefill` returned for the prompts without their last
                tokens. It may be changed: do not use it again.

        Raises:
            UsageError: a setting has a value that is not allowed.
            InputError: the model does not accept a prompt, or the cache is not of these prompts.
            GenerationLimitError: a sequence has reached the maximum length of the model.
        """
        sampling = Sampling(repetition_penalty, temperature, top_k, top_p, seed)
        if max_new_tokens < 1:
            raise UsageError(f"--max-new-tokens {max_new_tokens}: give 1 or more")
        prompts = self._prompts(input_ids)
        ends = self.stop if stop is None else frozenset(stop)
        return self._stream(prompts, max_new_tokens, sampling, ends, cache)

    def close(self) -> None:
        """Free the memory. The generator cannot be used afterwards."""
        self.decoder.close()

    def _stream(
        self,
        prompts: list[Tokens],
        max_new_tokens: int,
        sampling: Sampling,
        ends: frozenset[int],
        cache: Cache | None,
    ) -> Iterator[Tokens]:
        longest = max(map(len, prompts))
        # The last new token is not added to the cache.
        capacity = min(longest + max_new_tokens - 1, self.signature.max_length)
        if cache is None:
            logits, cache = self.decoder.prefill(prompts, capacity=capacity)
        else:
            logits, cache = self._continued(prompts, cache, capacity)
        sequences = [prompt.tolist() for prompt in prompts]
        random = sampling.generators(len(prompts))
        rows = list(range(len(prompts)))  # rows that have not ended, in the order of the cache
        for count in range(max_new_tokens):
            tokens = np.full(len(prompts), self._filler, np.int64)
            for row, scores in zip(rows, logits, strict=True):
                tokens[row] = sampling.choose(scores, sequences[row], random[row])
                sequences[row].append(int(tokens[row]))
            yield tokens
            kept = [place for place, row in enumerate(rows) if int(tokens[row]) not in ends]
            if count + 1 == max_new_tokens or not kept:
                return
            if len(kept) < len(rows):
                rows, cache = [rows[place] for place in kept], cache.select(kept)
            if int(cache.past_length.max()) >= self.signature.max_length:
                raise GenerationLimitError(
                    f"stopped after {count + 1} tokens: the model takes "
                    f"{self.signature.max_length} tokens, the prompt among them"
                )
            logits = self.decoder.step(tokens[rows], cache)

    def _continued(
        self, prompts: list[Tokens], cache: Cache, capacity: int
    ) -> tuple[NDArray[np.float32], Cache]:
        """The logits after the last token of each prompt; the cache holds the other tokens."""
        lengths = [len(prompt) for prompt in prompts]
        if cache.batch != len(prompts) or (cache.past_length + 1 != lengths).any():
            raise InputError(
                f"the cache holds {cache.past_length.tolist()} tokens, and the prompts have "
                f"{lengths}: it must hold all tokens of each prompt except the last"
            )
        if cache.capacity is not None and cache.capacity < capacity:
            cache = cache.with_capacity(capacity)
        last = np.array([prompt[-1] for prompt in prompts], np.int64)
        return self.decoder.step(last, cache), cache

    def _prompts(self, input_ids: Prompts) -> list[Tokens]:
        """The checked prompts, each `[length]`."""
        rows: list[Any]
        if isinstance(input_ids, np.ndarray):
            rows = [input_ids] if input_ids.ndim == 1 else list(input_ids)
        else:
            rows = list(input_ids)
            if rows and all(np.ndim(row) == 0 for row in rows):
                rows = [rows]
        if not rows:
            raise InputError("there is no prompt: give at least one, of at least one token")
        checked = []
        for row in rows:
            ids = np.asarray(row)
            if ids.size == 0 and not isinstance(row, np.ndarray):
                ids = ids.astype(np.int64)  # NumPy makes float64 of an empty list
            checked.append(self.signature.check({INPUT_IDS: ids[None]})[INPUT_IDS][0])
        return checked


def special_ids(artifact: Artifact) -> tuple[frozenset[int], int]:
    """The ids that end a sequence, and the id that fills rows that have ended."""
    found: dict[str, Any] = {}
    for name in ("config.json", "generation_config.json"):
        path = artifact.file(name)
        if path is None:
            continue
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if not isinstance(document, dict):
            continue
        found |= {
            key: document[key]
            for key in ("eos_token_id", "pad_token_id")
            if document.get(key) is not None
        }
    end = found.get("eos_token_id", [])
    ends = frozenset(map(int, end if isinstance(end, list) else [end]))
    return ends, int(found.get("pad_token_id", 0))
