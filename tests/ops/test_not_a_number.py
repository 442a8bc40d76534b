"""NaN and infinite inputs: outputs have no meaning, but buckets stay in range, nothing crashes."""

from __future__ import annotations

import math

import pytest
import torch

from reformer_ops.torch_ops import lsh_bucket, sorted_chunk_attention

FACTORS = (6, 40)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_buckets_stay_in_range(value: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 64, 3, 16, generator=generator)
    query[:, ::3, :, ::5] = value
    query[0, 7] = value
    query = query.to(dtype)
    rotations = torch.randn(3, 16, 2, sum(FACTORS) // 2, generator=generator)
    mask = torch.ones(2, 64, dtype=torch.bool)
    buckets = lsh_bucket(query, rotations, mask, FACTORS)
    assert buckets.min() >= 0
    assert buckets.max() < math.prod(FACTORS)
    output = sorted_chunk_attention(
        query,
        query,
        buckets,
        mask,
        num_buckets=math.prod(FACTORS),
        chunk_length=16,
        num_chunks_before=1,
        num_chunks_after=0,
        causal=True,
    )
    assert output.shape == query.shape
