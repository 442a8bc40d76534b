"""What is computed for each document. To add a result, add a class and an entry in `RESULTS`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import ATTENTION_MASK, INPUT_IDS, LOGITS, require_tokens
from reformer_export.errors import UsageError
from reformer_export.generation.generator import open_generator
from reformer_export.generation.sampling import Sampling
from reformer_export.inference.text import TextCodec
from reformer_export.quality import log2_softmax
from reformer_export.runtimes import open_runner
from reformer_export.runtimes.decoders import can_generate
from reformer_export.serving.batching import Batching
from reformer_export.serving.corpus.windows import Tokens, Window, windows_of
from reformer_ops.core.native import Choice

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """How results are computed.

    Attributes:
        window: the maximum number of tokens that the model sees at once.
        overlap: how many tokens of a window the next one sees again.
        batch_tokens: the maximum number of tokens in a batch, padding included.
        max_new_tokens: for generation.
        sampling: for generation.
    """

    window: int
    overlap: int
    batch_tokens: int = 16_384
    runtime: str = "auto"
    threads: int | None = None
    ops: Choice = "auto"
    max_new_tokens: int = 20
    sampling: Sampling = field(default_factory=Sampling)


class Result(ABC):
    """Computes a result with a model that it opens.

    Attributes:
        columns: the names of the columns and their types as pyarrow calls them.
    """

    columns: ClassVar[Mapping[str, str]]

    def __init__(self, artifact: Artifact, settings: Settings, codec: TextCodec) -> None:
        self.artifact = artifact
        self.settings = settings
        self.codec = codec

    @staticmethod
    @abstractmethod
    def possible(artifact: Artifact) -> bool:
        """Whether the artifact's model gives this result."""

    @abstractmethod
    def compute(self, documents: Sequence[Tokens], sizes: Sequence[int]) -> Rows:
        """The values of the columns for each document; `sizes` are their bytes."""

    @abstractmethod
    def close(self) -> None:
        """Free the model."""


class _FromWindows(Result):
    """A result that is put together from windows."""

    def __init__(self, artifact: Artifact, settings: Settings, codec: TextCodec) -> None:
        super().__init__(artifact, settings, codec)
        self._batching = Batching.of(artifact)
        self._runner = open_runner(
            artifact, runtime=settings.runtime, threads=settings.threads, ops=settings.ops
        )

    def compute(self, documents: Sequence[Tokens], sizes: Sequence[int]) -> Rows:
        """See the base class."""
        windows = [
            window
            for number, tokens in enumerate(documents)
            for window in windows_of(number, tokens, self.settings.window, self.settings.overlap)
        ]
        parts: dict[tuple[int, int], Any] = {}
        for batch in self._batches(windows):
            inputs = [
                {INPUT_IDS: w.tokens[None], ATTENTION_MASK: np.ones((1, len(w.tokens)), np.int64)}
                for w in batch
            ]
            outputs = self._runner.run(self._batching.merge(inputs))
            shapes = [(1, len(window.tokens)) for window in batch]
            split = self._batching.split(outputs, shapes)
            for window, own in zip(batch, split, strict=True):
                first = {name: array[0] for name, array in own.items()}
                parts[window.document, window.start] = self.part(window, first)
        # In the order of the document, so that the sums do not depend on the batches.
        ordered: list[list[Any]] = [[] for _ in documents]
        for window in windows:
            ordered[window.document].append(parts[window.document, window.start])
        return [
            self.whole(own, len(tokens), size)
            for own, tokens, size in zip(ordered, documents, sizes, strict=True)
        ]

    @abstractmethod
    def part(self, window: Window, outputs: Mapping[str, NDArray[Any]]) -> Any:
        """What a window contributes; the outputs are of this window alone, without batch axis."""

    @abstractmethod
    def whole(self, parts: Sequence[Any], tokens: int, size: int) -> dict[str, Any]:
        """The columns of a document of `tokens` tokens and `size` bytes."""

    def close(self) -> None:
        """See the base class."""
        self._runner.close()

    def _batches(self, windows: Sequence[Window]) -> list[list[Window]]:
        groups: dict[int, list[Window]] = {}
        for window in windows:
            length = self._batching.padded_length(len(window.tokens))
            groups.setdefault(length, []).append(window)
        batches = []
        for length, group in groups.items():
            rows = max(1, self.settings.batch_tokens // length)
            batches += [group[first : first + rows] for first in range(0, len(group), rows)]
        return batches


class Embeddings(_FromWindows):
    """The mean of the last hidden states of all tokens."""

    columns: ClassVar = {"embedding": "list<float>", "tokens": "int64"}

    @staticmethod
    def possible(artifact: Artifact) -> bool:
        """See the base class."""
        return artifact.manifest.task == "feature-extraction"

    def part(self, window: Window, outputs: Mapping[str, NDArray[Any]]) -> Any:
        """See the base class."""
        states: NDArray[Any] = outputs["last_hidden_state"]
        return states[window.new :].sum(axis=0, dtype=np.float64)

    def whole(self, parts: Sequence[Any], tokens: int, size: int) -> dict[str, Any]:
        """See the base class."""
        return {"embedding": (sum(parts) / tokens).astype(np.float32), "tokens": tokens}


class BitsPerByte(_FromWindows):
    """How well a causal model predicts the text. The first token has no context and costs as much
    as a token that is drawn from the vocabulary."""

    columns: ClassVar = {"bits_per_byte": "double", "bits": "double", "tokens": "int64"}

    @staticmethod
    def possible(artifact: Artifact) -> bool:
        """See the base class."""
        signature = artifact.signature
        return artifact.manifest.task == "text-generation" and not signature.last_logits

    def part(self, window: Window, outputs: Mapping[str, NDArray[Any]]) -> Any:
        """See the base class."""
        # The logits at a position predict the next token.
        first = max(window.new - 1, 0)
        logs = log2_softmax(outputs[LOGITS][first:-1])
        bits = -np.take_along_axis(logs, window.tokens[first + 1 :, None], axis=1).sum()
        vocabulary = require_tokens(self.artifact.signature, "map").vocab_size
        return bits + (math.log2(vocabulary) if not window.start else 0)

    def whole(self, parts: Sequence[Any], tokens: int, size: int) -> dict[str, Any]:
        """See the base class."""
        bits = float(sum(parts))
        return {"bits_per_byte": bits / size, "bits": bits, "tokens": tokens}


class Classification(_FromWindows):
    """The probabilities of the classes: the mean over the windows, weighted by new tokens."""

    columns: ClassVar = {"label": "int64", "scores": "list<float>", "tokens": "int64"}

    @staticmethod
    def possible(artifact: Artifact) -> bool:
        """See the base class."""
        return artifact.manifest.task == "text-classification"

    def part(self, window: Window, outputs: Mapping[str, NDArray[Any]]) -> Any:
        """See the base class."""
        scores = np.exp(outputs[LOGITS] - outputs[LOGITS].max(), dtype=np.float64)
        return scores / scores.sum() * (len(window.tokens) - window.new)

    def whole(self, parts: Sequence[Any], tokens: int, size: int) -> dict[str, Any]:
        """See the base class."""
        scores = sum(parts) / tokens
        return {
            "label": int(scores.argmax()),
            "scores": scores.astype(np.float32),
            "tokens": tokens,
        }


class Generation(Result):
    """A continuation. Of a document that is too long, the model sees the end."""

    columns: ClassVar = {"generated": "string", "new_tokens": "list<int64>", "tokens": "int64"}

    @staticmethod
    def possible(artifact: Artifact) -> bool:
        """See the base class."""
        return can_generate(artifact)

    def __init__(self, artifact: Artifact, settings: Settings, codec: TextCodec) -> None:
        super().__init__(artifact, settings, codec)
        self._generator = open_generator(
            artifact,
            runtime=settings.runtime,
            threads=settings.threads,
            ops=settings.ops,
        )

    def compute(self, documents: Sequence[Tokens], sizes: Sequence[int]) -> Rows:
        """See the base class."""
        longest = self.settings.window - self.settings.max_new_tokens
        return [self._row(tokens[-longest:], len(tokens)) for tokens in documents]

    def _row(self, prompt: Tokens, tokens: int) -> dict[str, Any]:
        # One document at a time: its random numbers must not depend on the others.
        sampling = self.settings.sampling
        steps = self._generator.stream(
            prompt,
            max_new_tokens=self.settings.max_new_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=sampling.seed,
        )
        new = [int(step[0]) for step in steps]
        stream = self.codec.stream(prompt.tolist())
        shown = new[:-1] if new and new[-1] in self._generator.stop else new
        text = "".join(stream.add(token) for token in shown) + stream.end()
        return {"generated": text, "new_tokens": new, "tokens": tokens}

    def close(self) -> None:
        """See the base class."""
        self._generator.close()


RESULTS: dict[str, type[Result]] = {
    "embeddings": Embeddings,
    "bits-per-byte": BitsPerByte,
    "classification": Classification,
    "generation": Generation,
}
"""The results by name; "auto" is the first that the artifact's model gives."""


def choose_result(artifact: Artifact, name: str) -> str:
    """The name of the result for --output; UsageError if the model does not give it."""
    possible = [key for key, result in RESULTS.items() if result.possible(artifact)]
    if not possible:
        raise UsageError(
            f"{artifact.path} is for {artifact.manifest.task}: map has no result for this task"
        )
    if name == "auto":
        return possible[0]
    if name not in RESULTS:
        raise UsageError(f"unknown --output {name!r}: choose auto or {', '.join(RESULTS)}")
    if name not in possible:
        raise UsageError(
            f"{artifact.path} is for {artifact.manifest.task}: it gives {', '.join(possible)}, "
            f"not {name}"
        )
    return name
