"""Bits per byte: how well a byte-level model predicts a text, in any runtime.

The model reads the text in windows of the largest length that it accepts. Each window starts half a
window after the previous one. Only the second half of a window counts, and the first half is its
context; the first window counts completely. So every byte counts once. The first byte of the text
has no context and costs 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Logits = Callable[[np.ndarray], np.ndarray]
"""Token ids `[batch, length]` int64 -> logits `[batch, length, vocab_size]`."""

BATCH = 8


def bits_per_byte(text: bytes, logits: Logits, window: int) -> float:
    """The mean of -log2(the probability that the model gave to the actual byte), summed in fp64."""
    ids = np.frombuffer(text, np.uint8).astype(np.int64)
    window = min(window, len(ids))
    starts = list(range(0, len(ids) - window, max(window // 2, 1)))
    total, counted = 8.0, 1
    for first in range(0, len(starts), BATCH):
        batch = starts[first : first + BATCH]
        costs = _costs(np.stack([ids[start : start + window] for start in batch]), logits)
        for start, cost in zip(batch, costs, strict=True):
            # cost[i] belongs to the byte at start + 1 + i.
            total += cost[counted - start - 1 :].sum()
            counted = start + window
    # The last window ends at the end of the text.
    last = len(ids) - window
    total += _costs(ids[None, last:], logits)[0, counted - last - 1 :].sum()
    return float(total / len(ids))


def _costs(ids: np.ndarray, logits: Logits) -> np.ndarray:
    """`[batch, length]` -> `[batch, length - 1]`: the cost in bits of each byte after the first."""
    scores = logits(ids)[:, :-1].astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(scores, ids[:, 1:, None], axis=-1)[..., 0]
    result: np.ndarray = (np.log(np.exp(scores).sum(axis=-1)) - chosen) / math.log(2)
    return result
