"""`torch.ops.reformer.lsh_bucket`: the portable implementation and its registration."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reformer_ops.core.errors import OpError
from reformer_ops.core.torch_library import call, check_operands, register
from reformer_ops.lsh_bucket.spec import LSH_BUCKET, bucket_count


def _check(
    query: torch.Tensor, rotations: torch.Tensor, mask: torch.Tensor, factors: Sequence[int]
) -> None:
    check_operands(LSH_BUCKET, query, rotations, mask)
    bucket_count(factors)
    columns_found = rotations.shape[3]
    if type(columns_found) is int and columns_found != sum(factors) // 2:
        raise OpError(
            f"lsh_bucket takes rotations with {sum(factors) // 2} columns for the factors "
            f"{list(factors)}; got shape {list(rotations.shape)}"
        )


def _portable(
    query: torch.Tensor, rotations: torch.Tensor, mask: torch.Tensor, factors: Sequence[int]
) -> torch.Tensor:
    num_buckets = bucket_count(factors)
    # Hashing is always fp32, so that the bucket does not depend on the model's type.
    query = query.to(torch.float32)
    stride, start = 1, 0
    buckets = torch.zeros((), dtype=torch.int64, device=query.device)
    for factor in factors:
        half = factor // 2
        columns = rotations[..., start : start + half]
        rotated = torch.einsum("blhd,hdrf->bhrlf", query, columns)
        # The argmax of [xR, -xR] without computing -xR. Of equal values, the lower index wins: xR.
        high, high_index = rotated.max(dim=-1)
        low, low_index = rotated.min(dim=-1)
        index = torch.where(high >= -low, high_index, low_index + half)
        buckets = buckets + stride * index
        start, stride = start + half, stride * factor
    padding = torch.full((), num_buckets, dtype=torch.int64, device=query.device)
    return torch.where(mask[:, None, None, :], buckets, padding).to(torch.int32)


def _fake(
    query: torch.Tensor, rotations: torch.Tensor, mask: torch.Tensor, factors: Sequence[int]
) -> torch.Tensor:
    batch, length, heads, _ = query.shape
    return query.new_empty((batch, heads, rotations.shape[2], length), dtype=torch.int32)


register(LSH_BUCKET, _check, _portable, _fake)


def lsh_bucket(
    query: torch.Tensor, rotations: torch.Tensor, mask: torch.Tensor, factors: Sequence[int]
) -> torch.Tensor:
    """The bucket of every query in every round, as defined by `reference.lsh_bucket`.

    Args:
        query: `[batch, length, heads, head_dim]` fp32, fp16 or bf16; hashed in fp32.
        rotations: `[heads, head_dim, num_hashes, sum(factors) / 2]` fp32.
        mask: `[batch, length]` bool, False for padding.
        factors: even numbers whose product is the number of buckets.

    Returns:
        `[batch, heads, num_hashes, length]` int32.

    Raises:
        OpError: shapes, types or factors do not fit.
    """
    return call(LSH_BUCKET, query, rotations, mask, factors)
