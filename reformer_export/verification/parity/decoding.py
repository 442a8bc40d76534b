"""Checks that a decoder computes the model's numbers, at the prompt and at every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact.signature import Signature
from reformer_export.errors import InferenceError, ParityError
from reformer_export.runtimes.decoder import Decoder
from reformer_export.runtimes.decoder_cache import Cache
from reformer_export.verification.parity.compare import relative_error
from reformer_export.verification.parity.report import ParityRow, Tolerance

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel

STEPS = 4
"""Tokens that are generated after each prompt."""


def lengths_with_steps(signature: Signature, sizes: Iterable[tuple[int, int]]) -> list[int]:
    """The lengths in `sizes`, pairs (length, batch), that leave room for `STEPS` more tokens."""
    longest = signature.max_length - STEPS
    return sorted({length for length, _ in sizes if length <= longest})


def compare_generation(
    candidate: Decoder,
    loaded: LoadedModel,
    batches: Iterable[Sequence[int]],
    tolerance: Tolerance,
) -> Iterator[ParityRow]:
    """`compare_decoding` with the checkpoint's own modules: two seeds for each batch of lengths.

    Closes the candidate.
    """
    from reformer_export.runtimes.torch_decoder import TorchDecoder

    signature = candidate.signature
    # As in the model's comparison, the reference computes the same weights in fp32.
    reference = TorchDecoder(loaded.in_fp32() if loaded.rounds else loaded, signature)
    baseline = TorchDecoder(loaded, signature) if loaded.rounds else None
    try:
        for lengths in batches:
            for seed in (0, 1) if lengths else ():
                yield compare_decoding(
                    candidate, reference, lengths, tolerance, baseline=baseline, seed=seed
                )
    finally:
        candidate.close()


def compare_decoding(
    candidate: Decoder,
    reference: Decoder,
    lengths: Sequence[int],
    tolerance: Tolerance,
    *,
    baseline: Decoder | None = None,
    seed: int = 0,
) -> ParityRow:
    """Compare the logits after a batch of prompts of these lengths, and after `STEPS` more tokens.

    Each step of the candidate runs from the reference's cache, so that an error shows in the step
    that causes it ("fixed"), and from the candidate's own cache ("free"). In "fixed", hash
    decisions that differ are counted, and the logits of their sequences are not compared: all later
    layers get different inputs.

    Args:
        lengths: the lengths of the prompts; each leaves room for `STEPS` more tokens in the model.
        baseline: a decoder in the candidate's precision; the candidate's error may be at most twice
            the error of this one, plus rounding.
    """
    result = _Result()
    try:
        _compare(candidate, reference, lengths, baseline, seed, result)
    except (InferenceError, ParityError) as error:
        result.fixed = result.free = float("inf")
        result.failure = str(error)
    bound = tolerance.output
    if baseline is not None:
        bound = min(bound, 2 * result.own + tolerance.rounding)
    return ParityRow(
        reference=f"{reference.name}, generating",
        length=max(lengths),
        batch=len(lengths),
        masked=False,
        seed=seed,
        decisions=result.decisions,
        flips=result.flips,
        flip_margin=0.0,
        fixed_error=result.fixed,
        free_error=result.free,
        bound=bound,
        misses=tuple(result.misses(bound, tolerance)),
    )


@dataclass
class _Result:
    """The result over all steps."""

    fixed: float = 0.0
    free: float = 0.0
    own: float = 0.0
    decisions: int = 0
    flips: int = 0
    compared: int = 0
    repeats: bool = True
    failure: str | None = None

    def misses(self, bound: float, tolerance: Tolerance) -> Iterator[str]:
        if self.failure is not None:
            yield self.failure
            return
        if not self.repeats:
            yield "two steps with the same input gave different logits"
        if self.flips > max(1.0, tolerance.flip_fraction * self.decisions):
            yield f"{self.flips} of {self.decisions} hash decisions differ while generating"
        # Written so that a NaN fails.
        if not self.fixed <= bound:
            yield f"logits differ by {self.fixed:.1e} of their scale while generating"
        if not self.flips and not self.free <= bound:
            yield f"logits differ by {self.free:.1e} of their scale after {STEPS} steps"
        if not self.compared:
            yield "a hash decision differs in every step, so no logits were compared"


def _compare(
    candidate: Decoder,
    reference: Decoder,
    lengths: Sequence[int],
    baseline: Decoder | None,
    seed: int,
    result: _Result,
) -> None:
    vocabulary = candidate.signature.vocab_size
    random = np.random.default_rng(seed)
    prompts = [random.integers(vocabulary, size=length) for length in lengths]
    capacity = max(lengths) + STEPS
    wanted, led = reference.prefill(prompts, capacity=capacity)
    found, own = candidate.prefill(prompts, capacity=capacity)
    _add(result, found, own, wanted, led, new=None)
    if baseline is not None:
        beside, _ = baseline.prefill(prompts, capacity=capacity)
        result.own = relative_error({"logits": beside}, {"logits": wanted})
    for _ in range(STEPS):
        tokens = random.integers(vocabulary, size=len(lengths))
        held, again = _copy(led, candidate), _copy(led, candidate)
        if baseline is not None:
            of_type = _copy(led, baseline)
            beside = baseline.step(tokens, of_type)
        wanted = reference.step(tokens, led)
        found = candidate.step(tokens, held)
        repeated = candidate.step(tokens, again)
        result.repeats = result.repeats and np.array_equal(found, repeated)
        _add(result, found, held, wanted, led, new=1)
        if baseline is not None:
            result.own = max(result.own, relative_error({"l": beside}, {"l": wanted}))
        free = candidate.step(tokens, own)
        result.free = max(result.free, relative_error({"logits": free}, {"logits": wanted}))


def _add(
    result: _Result,
    found: NDArray[np.float32],
    cache: Cache,
    wanted: NDArray[np.float32],
    right: Cache,
    *,
    new: int | None,
) -> None:
    """Compare the buckets of the last `new` tokens (None: of all), and the logits of the rows
    whose buckets agree."""
    agree = np.ones(len(found), bool)
    for row, length in enumerate(right.past_length.tolist()):
        tokens = slice(0 if new is None else length - new, length)
        for name, buckets in right.tensors.items():
            if name.startswith("buckets."):
                different = cache.tensors[name][row, ..., tokens] != buckets[row, ..., tokens]
                result.decisions += different.size
                result.flips += int(different.sum())
                agree[row] &= not different.any()
    if agree.any():
        result.compared += 1
        error = relative_error({"logits": found[agree]}, {"logits": wanted[agree]})
        result.fixed = max(result.fixed, error)


def _copy(cache: Cache, decoder: Decoder) -> Cache:
    """A copy of the cache for another decoder, in that decoder's dtypes."""
    tensors = {
        name: cache.tensors[name].astype(dtype)
        for name, (dtype, _) in decoder.layout.tensors.items()
    }
    return Cache(decoder.layout, tensors, cache.past_length.copy(), cache.prompt_length.copy())
