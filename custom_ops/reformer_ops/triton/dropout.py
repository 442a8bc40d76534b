"""Dropout in Triton: the elements that `core/dropout_masks.py` keeps."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit
def row_keys(seed, rows):
    """The keys of rows (int64), u32: the upper halves of SplitMix64's numbers."""
    x = seed.to(tl.uint64) + (rows + 1).to(tl.uint64) * 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return ((x ^ (x >> 31)) >> 32).to(tl.uint32)


@triton.jit
def dropout_factors(row_key, columns, THRESHOLD: tl.constexpr, FACTOR: tl.constexpr):
    """`[rows, columns]` fp32: 0 for an element that is dropped, FACTOR for one that is kept."""
    x = row_key[:, None] ^ columns.to(tl.uint32)[None, :]
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return tl.where(x.to(tl.int64) >= THRESHOLD, FACTOR, 0.0)


def dropout_constants(dropout: float) -> dict[str, Any]:
    """The constants of a kernel that drops a share of the probabilities; none if THRESHOLD is 0."""
    return {"THRESHOLD": int(dropout * 2**32), "FACTOR": 1 / (1 - dropout)}
