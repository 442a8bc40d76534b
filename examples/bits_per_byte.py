"""Bits per byte: how well a byte-level model predicts a text, whatever runs the model.

The text goes through in windows of as many bytes as the model takes, each half a window after the
one before. A window's second half counts, the first is its context; the first window counts whole,
so that every byte counts once. The text's first byte has no context and costs 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Logits = Callable[[np.ndarray], np.ndarray]
"""Token ids `[batch, length]` int64 -> logits `[batch, length, vocab_size]`."""

BATCH = 8


def bits_per_byte(text: bytes, logits: Logits, window: int) -> float:
    """The mean over the text of -log2 of what the model gave the byte that came, summed in fp64."""
    ids = np.frombuffer(text, np.uint8).astype(np.int64)
    window = min(window, len(ids))
    starts = list(range(0, len(ids) - window, max(window // 2, 1)))
    total, counted = 8.0, 1
    for first in range(0, len(starts), BATCH):
        batch = starts[first : first + BATCH]
        costs = _costs(np.stack([ids[start : start + window] for start in batch]), logits)
        for start, cost in zip(batch, costs, strict=True):
            # cost[i] is that of the byte at start + 1 + i.
            total += cost[counted - start - 1 :].sum()
            counted = start + window
    # The last window ends where the text does.
    last = len(ids) - window
    total += _costs(ids[None, last:], logits)[0, counted - last - 1 :].sum()
    return float(total / len(ids))


def _costs(ids: np.ndarray, logits: Logits) -> np.ndarray:
    """`[batch, length]` -> `[batch, length - 1]`: the bits that each byte after the first costs."""
    scores = logits(ids)[:, :-1].astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(scores, ids[:, 1:, None], axis=-1)[..., 0]
    result: np.ndarray = (np.log(np.exp(scores).sum(axis=-1)) - chosen) / math.log(2)
    return result
