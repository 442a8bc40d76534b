"""The same model with full attention, for comparison: every token attends to all tokens, or to
those up to itself if the model is causal."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class FullAttention(nn.Module):
    """Replaces a layer's attention and uses its projections.

    An LSH layer has one projection for query and key; its keys are its normalised queries, here
    too. Padding is not masked and a token may attend to itself, so that torch can use its fastest
    kernel: only the cost is compared, and the outputs differ from the Reformer's in any case.
    """

    def __init__(self, replaced: Any) -> None:
        super().__init__()
        self.head_shape: tuple[int, int] = replaced.head_shape
        self.causal: bool = replaced.causal
        self.shared = hasattr(replaced, "query_key")
        self.query = replaced.query_key if self.shared else replaced.query
        self.key = None if self.shared else replaced.key
        self.value = replaced.value

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, trace: None = None) -> torch.Tensor:
        """`[batch, length, hidden]` -> `[batch, length, heads * head_dim]`."""
        query, value = self._heads(self.query(hidden)), self._heads(self.value(hidden))
        if self.key is not None:
            key = self._heads(self.key(hidden))
        else:
            key = query * torch.rsqrt(query.square().mean(dim=-1, keepdim=True) + 1e-6)
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=self.causal
        )
        return attended.transpose(1, 2).flatten(-2)

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, self.head_shape).transpose(1, 2)


def attend_fully(model: Any) -> None:
    """Replace the attention of every layer of a task model, in place."""
    for layer in model.reformer.encoder.layers:
        layer.attention.self_attention = FullAttention(layer.attention.self_attention)
