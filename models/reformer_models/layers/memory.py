"""Learned keys and values that every token sees beside the sequence (arXiv 1907.01470)."""

from __future__ import annotations

import torch
from torch import nn


class Memory(nn.Module):
    """Vectors before the tokens of a sequence, so that they are visible in a causal model, too.

    All methods take the tensors of the tokens `[batch, length, ..]`. The joined length is rounded
    up to a multiple of `multiple`: the last token is repeated, and masked.
    """

    def __init__(self, count: int, heads: int, head_dim: int, *, multiple: int = 1) -> None:
        super().__init__()
        self.count = count
        self.multiple = multiple
        self.query_key = nn.Parameter(torch.zeros(count, heads, head_dim))
        self.value = nn.Parameter(torch.zeros(count, heads, head_dim))

    def with_keys(self, query_key: torch.Tensor) -> torch.Tensor:
        """`[batch, length, heads, head_dim]` -> the same with the memory before it."""
        return self._joined(self.query_key.expand(query_key.shape[0], -1, -1, -1), query_key)

    def with_values(self, value: torch.Tensor) -> torch.Tensor:
        """`[batch, length, heads, head_dim]` -> the same with the memory before it."""
        return self._joined(self.value.expand(value.shape[0], -1, -1, -1), value)

    def with_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """`[batch, length]` bool -> the same with True for the memory before it."""
        joined = self._joined(mask.new_ones(mask.shape[0], self.count), mask)
        places = torch.arange(joined.shape[1], device=mask.device)
        return joined & (places < self.count + mask.shape[1])

    def after_tokens(self, buckets: torch.Tensor) -> torch.Tensor:
        """Twice as many buckets, so that a sort puts the memory after the tokens of its bucket.

        `[batch, heads, num_hashes, joined]` integers -> the same.
        """
        places = torch.arange(buckets.shape[-1], device=buckets.device)
        return 2 * buckets + (places < self.count).to(buckets.dtype)

    def removed(self, output: torch.Tensor, length: int) -> torch.Tensor:
        """`[batch, joined, ..]` -> `[batch, length, ..]`."""
        places = torch.arange(length, device=output.device)
        return output.index_select(1, places + self.count)

    def _joined(self, memory: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([memory, tokens], dim=1)
        if self.multiple == 1:
            return joined
        length = self.count + tokens.shape[1]
        total = (length + self.multiple - 1) // self.multiple * self.multiple
        # No slice: an exporter would have to prove that it is within the tensor.
        last = torch.full((1,), length - 1, device=tokens.device)
        return joined.index_select(1, torch.minimum(torch.arange(total, device=last.device), last))
