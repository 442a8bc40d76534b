"""The norm before an attention or a feed-forward."""

from __future__ import annotations

import torch
from torch import nn

from reformer_models.config import ReformerConfig


class ScaleNorm(nn.Module):
    """A vector of length one, times one learned number (arXiv 1910.05895).

    Vectors shorter than `layer_norm_eps` are divided by this number instead of their length.
    """

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.shortest = config.layer_norm_eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[.., hidden]` -> the same; computed in fp32."""
        rows = hidden.to(torch.float32)
        length = rows.square().sum(dim=-1, keepdim=True).sqrt().clamp(min=self.shortest)
        return (rows / length * self.weight.to(torch.float32)).to(hidden.dtype)


def sublayer_norm(config: ReformerConfig) -> nn.Module:
    """The norm that the config's `sublayer_norm` names."""
    if config.sublayer_norm == "none":
        return nn.Identity()
    if config.sublayer_norm == "scale":
        return ScaleNorm(config)
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
