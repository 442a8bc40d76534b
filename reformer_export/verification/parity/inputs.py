"""Inputs that reveal differences: lengths around the chunk lengths, ragged masks, batches."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reformer_export.artifact.signature import ATTENTION_MASK, Signature
from reformer_export.errors import UsageError
from reformer_export.runtimes.base import Arrays

_SEEDS = (0, 1)
_BATCHES = (1, 3)


@dataclass(frozen=True)
class ParityInput:
    """One call: random inputs, perhaps with a mask."""

    length: int
    batch: int
    seed: int
    masked: bool
    inputs: Arrays


def choose_sizes(
    lengths: Sequence[int] | None,
    batches: Sequence[int] | None,
    changing_lengths: Sequence[int],
    multiple: int,
    max_length: int,
) -> list[tuple[int, int]]:
    """The (length, batch) pairs to try: the user's, or lengths at which the computation changes.

    By default these are 1, each of `changing_lengths` and one more, `multiple` (the padding goes up
    to its multiples) and one more, 2 times `multiple` and 5 more, and 8 times `multiple`. Rows of a
    batch are independent, so a batch of several is tried at two lengths only: one without padding
    and one with.
    """
    if lengths:
        return [(length, batch) for length in lengths for batch in batches or _BATCHES]
    chosen = {1, multiple, multiple + 1, 2 * multiple + 5, 8 * multiple}
    for length in changing_lengths:
        chosen |= {length, length + 1}
    # A model whose maximum length is below `multiple` is tried at its maximum length.
    chosen = {length for length in chosen if length <= max_length} | {min(multiple, max_length)}
    last = max(chosen)
    several = {min(min(changing_lengths), last), min(multiple + 1, last)}
    sizes = []
    for length in sorted(chosen):
        usual = _BATCHES if length in several else _BATCHES[:1]
        sizes += [(length, batch) for batch in batches or usual]
    return sizes


def parity_inputs(signature: Signature, sizes: Sequence[tuple[int, int]]) -> Iterator[ParityInput]:
    """Two random inputs for every (length, batch); batches of several have ragged masks.

    Raises:
        UsageError: the model does not accept a length or a batch size.
    """
    for length, batch in sizes:
        if not signature.min_length <= length <= signature.max_length:
            raise UsageError(f"--lengths {length}: this model takes {signature.lengths}")
        if batch < 1:
            raise UsageError(f"--batch {batch}: a batch has at least one sequence")
    for length, batch in sizes:
        for seed in _SEEDS:
            yield _parity_input(signature, length, batch, seed)


def _parity_input(signature: Signature, length: int, batch: int, seed: int) -> ParityInput:
    rng = np.random.default_rng((seed, batch, length))
    inputs = signature.check(signature.random_inputs(rng, batch, length))
    masked = ATTENTION_MASK in inputs and not inputs[ATTENTION_MASK].all()
    return ParityInput(length, batch, seed, bool(masked), inputs)


@contextlib.contextmanager
def another_rng_state(seed: int) -> Iterator[None]:
    """Give the global generators another state, as in another program; restores it afterwards."""
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
