"""`LshBucket` on CUDA tensors: one launch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reformer_ops.lsh_bucket import triton_kernel
from reformer_ops.triton.torch import as_bytes, on_device_of, target_of, type_of


def lsh_bucket(
    query: torch.Tensor, rotations: torch.Tensor, mask: torch.Tensor, factors: Sequence[int]
) -> torch.Tensor:
    """Same as the torch operator, but operands are already checked."""
    batch, length, heads, head_dim = query.shape
    num_hashes = rotations.shape[2]
    launch = triton_kernel.lsh_bucket(
        dtype=type_of(query),
        heads=heads,
        head_dim=head_dim,
        num_hashes=num_hashes,
        factors=tuple(factors),
        target=target_of(query),
    )
    with on_device_of(query):
        buckets = query.new_empty((batch, heads, num_hashes, length), dtype=torch.int32)
        launch.run(
            {
                "query": query.contiguous(),
                "rotations": rotations.contiguous(),
                "mask": as_bytes(mask),
                "buckets": buckets,
            },
            batch=batch,
            length=length,
        )
    return buckets
