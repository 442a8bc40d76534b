"""Runs a model of Transformers and ours on the same input and measures how they differ."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from reformer_models.layers.hashing import BucketTrace
from reformer_models.loading import LoadedModel
from reformer_ops.lsh_bucket.reference import bucket_margins

from .reformers import token_ids

Outputs = dict[str, torch.Tensor]
Buckets = Sequence[torch.Tensor | None]

TOLERANCE = 2e-5
"""For an output, relative to its largest magnitude, if both models have the same buckets.

A model may amplify rounding errors beyond it, for example by a layer norm over few numbers. It may
then differ as far as `rounding_effect` allows.
"""

ROUNDING_FACTOR = 8
"""An error may be this many times `rounding_effect`, which is a sample: operations round too."""

FLIP_MARGIN = 1e-5
"""The largest margin of a hash decision that may differ, as `bucket_margins` measures it."""

FLIP_FRACTION = 1e-4
"""The largest share of decisions that may differ."""


def run_theirs(
    model: Any,
    loaded: LoadedModel,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    forced: Buckets | None = None,
) -> tuple[Outputs, Buckets]:
    """Outputs by name, and the buckets of each LSH layer, None for those that did not hash."""
    rng = torch.random.fork_rng(devices=[])
    with watched(model, loaded, forced) as buckets, rng, torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=mask, use_cache=False)
    return {name: outputs[name] for name in loaded.model.output_axes}, buckets


@contextmanager
def watched(model: Any, loaded: LoadedModel, forced: Buckets | None = None) -> Iterator[Buckets]:
    """Collects the buckets of the LSH layers of a model of Transformers; `forced` replaces them.

    Buckets are `[batch, heads, num_hashes, length]`, each round counted from 0.
    """
    base = getattr(model, "reformer", model)
    attentions = [layer.attention.self_attention for layer in base.encoder.layers]
    layers = [attention for attention in attentions if hasattr(attention, "query_key")]
    seen: list[torch.Tensor | None] = [None] * len(layers)

    def hash_vectors(
        index: int,
        original: Callable[..., torch.Tensor],
        vectors: torch.Tensor,
        num_hashes: int,
        attention_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        batch, heads, length, _ = vectors.shape
        padded = attention_mask is not None and not bool(attention_mask.all())
        first = torch.arange(num_hashes)[:, None] * (loaded.config.bucket_count + padded)
        if forced is None:
            computed = original(vectors, num_hashes, attention_mask)
        else:
            wanted = forced[index]
            assert wanted is not None
            computed = (wanted + first).reshape(batch, heads, -1)
        seen[index] = (computed.reshape(batch, heads, num_hashes, length) - first).int()
        return computed

    for index, layer in enumerate(layers):
        layer._hash_vectors = functools.partial(hash_vectors, index, layer._hash_vectors)
    try:
        yield seen
    finally:
        for layer in layers:
            del layer._hash_vectors


def run_ours(
    loaded: LoadedModel,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    forced: Buckets | None = None,
) -> tuple[Outputs, BucketTrace]:
    trace = BucketTrace(forced)
    with torch.no_grad():
        return loaded.model(ids, mask, trace), trace


def rounding_effect(
    model: Any, loaded: LoadedModel, ids: torch.Tensor, mask: torch.Tensor | None, buckets: Buckets
) -> float:
    """How far Transformers' outputs move if weights move by an fp32 rounding (2**-23 of each).

    The largest of 8 random samples, computed in fp64 with the given buckets.
    """
    exact, _ = run_theirs(copy.deepcopy(model).double(), loaded, ids, mask, buckets)
    effects = []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        moved = copy.deepcopy(model).double()
        for weight in moved.parameters():
            noise = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
            weight.data *= 1 + 2**-23 * (2 * noise - 1)
        outputs, _ = run_theirs(moved, loaded, ids, mask, buckets)
        effects.append(relative_error(outputs, exact))
    return max(effects)


def relative_error(actual: Outputs, expected: Outputs) -> float:
    """The largest difference of any output, relative to its largest magnitude."""
    assert actual.keys() == expected.keys()
    errors = []
    for name, wanted in expected.items():
        found = actual[name]
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        assert wanted.isfinite().all()
        assert found.isfinite().all()
        difference = (found.double() - wanted.double()).abs().max()
        errors.append((difference / wanted.double().abs().max()).item())
    return max(errors)


def assert_equal_outputs(model: Any, loaded: LoadedModel) -> None:
    """Checks with one input, which needs padding, that both are the same model."""
    ids = token_ids(2, 17, loaded.config.vocab_size)
    expected, buckets = run_theirs(model, loaded, ids, None)
    found, _ = run_ours(loaded, ids, None, buckets)
    assert relative_error(found, expected) <= TOLERANCE


@dataclass
class Tally:
    """Differences between the two implementations, over many runs."""

    runs: int = 0
    error: float = 0.0
    decisions: int = 0
    margins: list[float] = field(default_factory=list)

    def compare(
        self, model: Any, loaded: LoadedModel, ids: torch.Tensor, mask: torch.Tensor | None
    ) -> None:
        """Run both and note how they differ; fails if rounding does not explain the difference."""
        expected, buckets = run_theirs(model, loaded, ids, mask)
        found, trace = run_ours(loaded, ids, mask)
        if self._differ(trace, buckets):
            # A flip changes every later number, so run again with the same buckets in every layer.
            found, trace = run_ours(loaded, ids, mask, buckets)
        margins = list(self._flips(loaded, trace, buckets))
        error = relative_error(found, expected)

        self.runs += 1
        self.error = max(self.error, error)
        self.margins += margins
        self.decisions += sum(wanted.numel() for wanted in buckets if wanted is not None)
        case = f"ids {list(ids.shape)}, kept {None if mask is None else mask.sum(1).tolist()}"
        if error > TOLERANCE:
            effect = rounding_effect(model, loaded, ids, mask, buckets)
            assert error <= ROUNDING_FACTOR * effect, case
        assert max(margins, default=0) <= FLIP_MARGIN, case

    def check(self) -> None:
        """Checks the number of flips in all runs together."""
        assert len(self.margins) <= max(1, FLIP_FRACTION * self.decisions)

    def __str__(self) -> str:
        flips = f"{len(self.margins)} of {self.decisions:,} decisions flipped"
        if self.margins:
            flips += f", the clearest by {max(self.margins):.1e}"
        return f"largest difference {self.error:.1e} in {self.runs} runs; {flips}"

    @staticmethod
    def _differ(trace: BucketTrace, buckets: Buckets) -> bool:
        pairs = zip(trace.computed, buckets, strict=True)
        return any(wanted is not None and not torch.equal(ours, wanted) for ours, wanted in pairs)

    @staticmethod
    def _flips(loaded: LoadedModel, trace: BucketTrace, buckets: Buckets) -> Iterator[float]:
        """The margin of each decision that differs."""
        factors = loaded.config.num_buckets
        rotations = list(loaded.rotations.values())
        for layer, (computed, wanted) in enumerate(zip(trace.computed, buckets, strict=True)):
            if wanted is None:
                continue
            for batch, head, hash_round, position in (computed != wanted).nonzero().tolist():
                assert factors is not None
                query = trace.queries[layer][batch, position, head].reshape(1, 1, 1, -1)
                matrix = rotations[layer][head : head + 1, :, hash_round : hash_round + 1]
                margin = bucket_margins(query.numpy(), matrix.numpy(), factors=factors)
                yield margin.item()
