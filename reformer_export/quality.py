"""How a model with weights of fewer bits differs from the model with all bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import ATTENTION_MASK, INPUT_IDS, Signature, require_tokens
from reformer_export.errors import InputError
from reformer_export.generation.sampling import Sampling
from reformer_export.inference.inputs import read_array, read_bytes
from reformer_export.inference.text import open_codec
from reformer_export.runtimes.torch import TorchRunner
from reformer_export.runtimes.torch_decoder import TorchDecoder

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel

LONGEST = 8192
"""Tokens of a sequence: a longer text is cut into sequences of at most this length."""

MOST_TOKENS = 2**17
"""Tokens that are compared. The rest of a longer text is left out."""

_SAMPLES = 4
_ROWS_AT_ONCE = 2**14  # tokens

Ids = NDArray[np.int64]
Logs = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """The tokens on which two models are compared.

    Attributes:
        description: where the tokens come from.
        sequences: `[length]` each.
        text_bytes: the bytes of the text that these tokens encode; None if they are not of a text.
    """

    description: str
    sequences: tuple[Ids, ...]
    text_bytes: int | None = None


@dataclass(frozen=True)
class Quality:
    """The difference of two models on the same tokens.

    Attributes:
        samples: where the tokens come from.
        tokens: how many tokens were compared.
        flips: the share of hash decisions that differ, where all earlier layers use the same
            buckets; None for a model without LSH layers.
        error: the root mean square of the difference of the outputs, divided by that of the
            outputs.
        agreement: the share of positions at which both models have the same largest logit; None
            for a model without logits.
        divergence: the mean Kullback-Leibler divergence of the distributions, in bits; None
            likewise.
        bits_before: bits for each token (for each byte, if the samples are a text) of the model
            with all bits; None unless the task is text-generation.
        bits_after: the same of the other model.
    """

    samples: str
    tokens: int
    flips: float | None
    error: float
    agreement: float | None = None
    divergence: float | None = None
    bits_before: float | None = None
    bits_after: float | None = None

    @property
    def loss(self) -> float | None:
        """The relative increase of the bits; None if there are none."""
        if self.bits_before is None or self.bits_after is None:
            return None
        return self.bits_after / self.bits_before - 1

    def to_json(self) -> dict[str, Any]:
        """The record in a manifest."""
        return asdict(self) | {"loss": self.loss, "summary": self.summary()}

    def summary(self) -> str:
        """One line for people."""
        parts = [f"on {self.tokens:,} tokens ({self.samples}): outputs differ by {self.error:.2%}"]
        if self.flips is not None:
            parts.append(f"{self.flips:.2%} of the hash decisions flipped")
        if self.agreement is not None:
            parts.append(f"{self.agreement:.2%} equal predictions")
        if self.bits_before is not None and self.bits_after is not None:
            bits = f"{self.bits_before:.4f} -> {self.bits_after:.4f} bits"
            parts.append(f"{bits} ({self.loss:+.2%})")
        return ", ".join(parts)


def read_samples(path: str | Path, artifact: Artifact, *, tokenizer: str = "auto") -> Samples:
    """Tokens from a .npy file of ids, or from a text that the artifact's tokenizer encodes.

    Raises:
        InputError: the file cannot be read, has tokens that the model does not know, or has fewer
            than two tokens.
        UsageError: an unknown tokenizer.
    """
    signature, text_bytes = artifact.signature, None
    if Path(path).suffix == ".npy":
        rows = [row.astype(np.int64) for row in read_array(path, INPUT_IDS)]
    else:
        text = read_bytes(path)
        rows, text_bytes = [open_codec(artifact, tokenizer=tokenizer).encode(text)], len(text)
    total = sum(len(row) for row in rows)
    longest = min(signature.max_length, LONGEST)
    pieces = [row[i : i + longest] for row in rows for i in range(0, len(row), longest)]
    sequences = tuple(piece for piece in pieces if len(piece) > 1)[: -(-MOST_TOKENS // longest)]
    if not sequences:
        raise InputError(f"{path} holds {total} tokens: the comparison needs at least 2")
    for sequence in sequences:
        signature.check({INPUT_IDS: sequence[None]})
    if text_bytes is not None:
        text_bytes = round(text_bytes * sum(map(len, sequences)) / total)
    return Samples(Path(path).name, sequences, text_bytes)


def own_samples(loaded: LoadedModel, signature: Signature) -> Samples:
    """Sequences that a causal language model with a cache generates; random tokens for others.

    Each is long enough for several chunks, if the model takes such a length.
    """
    config = loaded.config
    length = min(signature.max_length, 3 * max(config.chunk_multiple, *config.changing_lengths))
    random = np.random.default_rng(0)
    ids = random.integers(require_tokens(signature, "quality").vocab_size, size=(_SAMPLES, length))
    if loaded.task != "text-generation" or length < 2 or not config.has_cache:
        return Samples("random tokens", tuple(ids))
    decoder = TorchDecoder(loaded, signature)
    sampling = Sampling(temperature=1.0)
    randoms = sampling.generators(_SAMPLES)
    logits, cache = decoder.prefill(list(ids[:, :1]), capacity=length)
    for place in range(1, length):
        ids[:, place] = [
            sampling.choose(row, [], source) for row, source in zip(logits, randoms, strict=True)
        ]
        if place < length - 1:
            logits = decoder.step(ids[:, place], cache)
    return Samples("sequences that the model generated", tuple(ids))


def has_loss(task: str, signature: Signature) -> bool:
    """True if the model predicts each next token, so that bits per token can be measured."""
    return task == "text-generation" and not signature.last_logits


def measure_quality(
    full: LoadedModel, quantised: LoadedModel, signature: Signature, samples: Samples
) -> Quality:
    """Compare a model with all bits and the same model with fewer, both in torch."""
    before, after = TorchRunner(full, signature), TorchRunner(quantised, signature)
    sums = _Sums()
    for batch in _batches(samples.sequences):
        inputs = {INPUT_IDS: batch, ATTENTION_MASK: np.ones_like(batch)}
        wanted = before.probe(inputs)
        found = after.run(inputs)
        # At equal buckets: else each flip would change all decisions after it.
        held = after.probe(inputs, wanted.buckets)
        for mine, theirs in zip(held.buckets, wanted.buckets, strict=True):
            if mine is not None and theirs is not None:
                sums.decisions += mine.size
                sums.flips += int((mine != theirs).sum())
        for name, output in wanted.outputs.items():
            sums.add_error(output, found[name])
        if "logits" in wanted.outputs:
            sums.add_logits(
                log2_softmax(wanted.outputs["logits"]),
                log2_softmax(found["logits"]),
                batch if has_loss(full.task, signature) else None,
            )
    return sums.quality(samples)


class _Sums:
    def __init__(self) -> None:
        self.decisions = self.flips = self.positions = self.equal = self.predicted = 0
        self.squares = self.differences = self.divergence = self.before = self.after = 0.0

    def add_error(self, wanted: NDArray[Any], found: NDArray[Any]) -> None:
        wide = wanted.astype(np.float64)
        self.squares += float(np.square(wide).sum())
        self.differences += float(np.square(wide - found).sum())

    def add_logits(self, wanted: Logs, found: Logs, ids: Ids | None) -> None:
        """Add log probabilities `[.., vocab_size]`; with the tokens, also their bits."""
        self.positions += int(np.prod(wanted.shape[:-1]))
        self.equal += int((wanted.argmax(axis=-1) == found.argmax(axis=-1)).sum())
        self.divergence += float((np.exp2(wanted) * (wanted - found)).sum())
        if ids is not None:
            self.predicted += ids[:, 1:].size
            self.before += _bits(wanted, ids)
            self.after += _bits(found, ids)

    def quality(self, samples: Samples) -> Quality:
        tokens = sum(len(sequence) for sequence in samples.sequences)
        # The first token of a sequence is not predicted.
        unit = self.predicted
        if samples.text_bytes is not None and tokens:
            unit = round(self.predicted * samples.text_bytes / tokens)
        return Quality(
            samples=samples.description,
            tokens=tokens,
            flips=self.flips / self.decisions if self.decisions else None,
            error=math.sqrt(self.differences / max(self.squares, np.finfo(np.float64).tiny)),
            agreement=self.equal / self.positions if self.positions else None,
            divergence=self.divergence / self.positions if self.positions else None,
            bits_before=self.before / unit if unit else None,
            bits_after=self.after / unit if unit else None,
        )


def _bits(logs: Logs, ids: Ids) -> float:
    """The bits of all tokens of a batch except the first of each row."""
    return -float(np.take_along_axis(logs[:, :-1], ids[:, 1:, None], axis=-1).sum())


def log2_softmax(logits: NDArray[Any]) -> Logs:
    """Logarithms (base 2) of the probabilities, fp64, over the last axis."""
    wide = logits.astype(np.float64) / math.log(2)
    wide -= wide.max(axis=-1, keepdims=True)
    result: Logs = wide - np.log2(np.exp2(wide).sum(axis=-1, keepdims=True))
    return result


def _batches(sequences: Sequence[Ids]) -> list[Ids]:
    """Sequences of one length together, as many as fit into memory."""
    batches: list[list[Ids]] = []
    for sequence in sequences:
        last = batches[-1] if batches else []
        fits = last and len(last[0]) == len(sequence)
        if fits and (len(last) + 1) * len(sequence) <= _ROWS_AT_ONCE:
            last.append(sequence)
        else:
            batches.append([sequence])
    return [np.stack(batch) for batch in batches]
