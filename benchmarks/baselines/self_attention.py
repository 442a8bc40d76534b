"""The base class of all baselines: it keeps the projections of the layer that it replaces."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from reformer_export.errors import UsageError


class SelfAttention(nn.Module, ABC):
    """Replaces the self-attention of a local layer; keeps its projections and heads.

    Padding is at the end of a sequence, as everywhere in this project. So only a bidirectional
    attention needs the mask: a causal one never sees later positions.

    Raises:
        UsageError: the model is bidirectional and the attention can only be causal, or the reverse.
    """

    both_ways = True
    """True if it can be bidirectional."""

    one_way = True
    """True if it can be causal."""

    def __init__(self, replaced: Any) -> None:
        super().__init__()
        self.head_shape: tuple[int, int] = replaced.head_shape
        self.causal: bool = replaced.causal
        self.query, self.key, self.value = replaced.query, replaced.key, replaced.value
        if not (self.one_way if self.causal else self.both_ways):
            kind = "causal" if self.causal else "bidirectional"
            raise UsageError(f"{type(self).__name__} cannot be {kind}: choose another attention")

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor, source: object = None
    ) -> torch.Tensor:
        """`[batch, length, hidden]` and `[batch, length]` bool -> `[batch, length, width]`.

        `source` is not used; only layers that hash need it.
        """
        query, key, value = (
            projection(hidden).unflatten(-1, self.head_shape).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        return self.attend(query, key, value, mask).transpose(1, 2).flatten(-2)

    @abstractmethod
    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """`query`, `key`, `value` and the result have the shape
        `[batch, heads, length, head_dim]`."""


def softmax_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor | None = None
) -> torch.Tensor:
    """`query` is `[.., queries, head_dim]`; `key` and `value` are `[.., keys, head_dim]`; the
    result has the shape of `query`.

    All scores are computed, `[.., queries, keys]`; `visible` has the same shape, and where it is
    False the weight is 0. An exported graph with standard operators cannot compute it in another
    way; `reformer_export.bench` measures torch's own kernel.
    """
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)
    return torch.softmax(scores, dim=-1) @ value
