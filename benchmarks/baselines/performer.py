"""Softmax attention as a product of positive random features, computed from sums over keys.

Source: "Rethinking Attention with Performers", arXiv 2009.14794: FAVOR+, that is, positive features
(lemma 1) of orthogonal directions (section 2.4). The causal form stores one prefix sum for each
chunk and computes the products within a chunk directly, so memory grows linearly with the length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad

from benchmarks.baselines.self_attention import SelfAttention
from reformer_ops.core.torch_library import whole_chunks


class PerformerAttention(SelfAttention):
    """An estimate of softmax attention in linear time.

    Attributes:
        directions: `[num_features, head_dim]`, drawn once and used by all heads.
        epsilon: added to every feature, so that a sum is not 0 if all features underflow; the
            largest feature is 1.
    """

    epsilon = 1e-6
    directions: torch.Tensor

    def __init__(self, replaced: Any, num_features: int, chunk_length: int, seed: int) -> None:
        super().__init__(replaced)
        self.chunk_length = chunk_length
        directions = draw_directions(num_features, self.head_shape[1], seed)
        self.register_buffer("directions", directions, persistent=False)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Three times `[batch, heads, length, head_dim]` -> the same."""
        # A factor of one query, or of all keys, is in the numerator and in the denominator. So the
        # largest exponent can be subtracted: only the range changes, not the result.
        queries, keys = self._exponents(query), self._exponents(key)
        queries = torch.exp(queries - queries.amax(dim=-1, keepdim=True).detach()) + self.epsilon
        keys = torch.exp(keys - keys.amax(dim=(-1, -2), keepdim=True).detach()) + self.epsilon
        # With a column of ones, the product also contains the sum of the weights.
        values = pad(value, (0, 1), value=1.0)
        if self.causal:
            sums = self._causal(queries, keys, values)
        else:
            sums = queries @ ((keys * mask[:, None, :, None]).transpose(-1, -2) @ values)
        return sums[..., :-1] / sums[..., -1:]

    def _exponents(self, rows: torch.Tensor) -> torch.Tensor:
        """Logarithms of the features: `[.., length, head_dim] -> [.., length, num_features]`."""
        rows = rows * rows.shape[-1] ** -0.25  # half of the scores' scale for each factor
        return rows @ self.directions.T - rows.square().sum(dim=-1, keepdim=True) / 2

    def _causal(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        length = queries.shape[2]
        chunks, padding = whole_chunks(length, self.chunk_length)
        queries, keys, values = (
            pad(rows, (0, 0, 0, padding)).unflatten(2, (chunks, self.chunk_length))
            for rows in (queries, keys, values)
        )
        inclusive = torch.cumsum(keys.transpose(-1, -2) @ values, dim=2)
        before = pad(inclusive, (0, 0, 0, 0, 1, 0))[:, :, :-1]
        within = torch.tril(queries @ keys.transpose(-1, -2))
        return (queries @ before + within @ values).flatten(2, 3)[:, :, :length]


def draw_directions(num_features: int, head_dim: int, seed: int) -> torch.Tensor:
    """`[num_features, head_dim]` fp32: each row is Gaussian, and rows of a block are orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    blocks = -(-num_features // head_dim)
    gaussian = torch.randn(blocks, head_dim, head_dim, generator=generator)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # makes rotations uniformly random
    orthogonal = q.transpose(-1, -2).reshape(-1, head_dim)
    lengths = torch.randn(num_features, head_dim, generator=generator).norm(dim=-1, keepdim=True)
    return orthogonal[:num_features] * lengths
