"""Computes margins of hash decisions on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reformer_ops.lsh_bucket.reference import bucket_margins

if TYPE_CHECKING:
    import torch


def decision_margins(
    query: torch.Tensor,
    rotations: torch.Tensor,
    factors: Sequence[int],
    where: tuple[NDArray[np.intp], ...],
) -> NDArray[np.float64]:
    """`reformer_ops.lsh_bucket.reference.bucket_margins` of the decisions at `where`.

    Args:
        query: `[batch, length, heads, head_dim]`.
        rotations: `[heads, head_dim, num_hashes, sum(factors) / 2]`.
        where: indices `(batch, head, round, position)`, as `numpy.nonzero` returns them.
    """
    margins = np.empty(len(where[0]), np.float64)
    for number, (batch, head, hash_round, position) in enumerate(zip(*where, strict=True)):
        row = query[batch, position, head].float().numpy().reshape(1, 1, 1, -1)
        matrix = rotations[head : head + 1, :, hash_round : hash_round + 1].numpy()
        margins[number] = bucket_margins(row, matrix, factors=factors).item()
    return margins
