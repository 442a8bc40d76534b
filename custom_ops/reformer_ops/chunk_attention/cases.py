"""Test inputs of `ChunkAttention` for every backend."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reformer_ops.core.cases import Case, Inputs, random_mask


def make_case(
    *,
    batch: int,
    length: int,
    heads: int,
    head_dim: int,
    chunk_length: int,
    before: int = 1,
    after: int = 0,
    causal: bool = True,
    mask: str = "full",
    seed: int = 0,
) -> Case:
    """Normally distributed queries, keys and values."""
    rng = np.random.default_rng(seed)
    shape = (batch, length, heads, head_dim)
    inputs: Inputs = {
        name: rng.standard_normal(shape).astype(np.float32) for name in ("query", "key", "value")
    }
    inputs["mask"] = random_mask(rng, batch, length, mask)
    return Case(
        f"b{batch}-l{length}-h{heads}-d{head_dim}-c{chunk_length}-look{before}.{after}-"
        f"{'causal' if causal else 'both'}-{mask}",
        inputs,
        {
            "chunk_length": chunk_length,
            "num_chunks_before": before,
            "num_chunks_after": after,
            "causal": causal,
        },
    )


def cases() -> Iterator[Case]:
    """Lengths of less than one, one and many chunks; all neighbours, directions and masks."""
    for length in (1, 5, 8, 16, 40):
        for causal in (True, False):
            yield make_case(
                batch=2, length=length, heads=2, head_dim=4, chunk_length=8, causal=causal
            )
    yield make_case(
        batch=3, length=24, heads=3, head_dim=7, chunk_length=6, before=0, after=0, causal=False
    )
    yield make_case(
        batch=2, length=32, heads=1, head_dim=8, chunk_length=8, before=1, after=1, causal=False
    )
    # More neighbours than the ring has: three chunks back and two forward, with only two chunks.
    yield make_case(
        batch=1, length=8, heads=2, head_dim=4, chunk_length=4, before=3, after=2, causal=False
    )
    for mask in ("ragged", "holes", "empty"):
        for length in (7, 48):
            yield make_case(
                batch=3, length=length, heads=2, head_dim=16, chunk_length=16, mask=mask
            )
            yield make_case(
                batch=3,
                length=length,
                heads=2,
                head_dim=16,
                chunk_length=16,
                after=1,
                causal=False,
                mask=mask,
            )
    yield make_case(batch=1, length=256, heads=2, head_dim=64, chunk_length=64)
    # Long heads and chunks: for these, GPUs use other tile sizes.
    yield make_case(batch=1, length=256, heads=1, head_dim=128, chunk_length=128, mask="ragged")
    # A sum over unnormalised weights would leave the range of fp16.
    large = make_case(batch=1, length=192, heads=1, head_dim=8, chunk_length=96)
    large.inputs["query"] *= 0.01
    large.inputs["value"] += 1000.0
    yield Case("large-values", large.inputs, large.attributes)
