"""Attention to a fixed number of learned mixtures of all keys.

Source: "Linformer: Self-Attention with Linear Complexity", arXiv 2006.04768, section 4, with one
projection for keys and values and for all heads of a layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from benchmarks.baselines.self_attention import SelfAttention, softmax_attention


class LinformerAttention(SelfAttention):
    """A mixture contains keys of every position, so this attention cannot be causal.

    Attributes:
        mixture: `[rank, max_length]`: the weight of each position in each mixture. A shorter
            sequence uses the first columns. A longer one is not possible: it would have no weights.
    """

    one_way = False

    def __init__(self, replaced: Any, max_length: int, rank: int, seed: int) -> None:
        super().__init__(replaced)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(rank, max_length, generator=generator) / math.sqrt(rank)
        self.mixture = nn.Parameter(drawn)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Three times `[batch, heads, length, head_dim]` -> the same."""
        positions = torch.arange(key.shape[2], device=key.device)
        weights = self.mixture.index_select(1, positions)
        present = mask[:, None, :, None]
        keys, values = weights @ (key * present), weights @ (value * present)
        return softmax_attention(query, keys, values)
