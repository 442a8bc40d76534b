"""Reversible layers: two streams, each updated from the other (Reformer, section 3)."""

from __future__ import annotations

import torch
from torch import nn

from reformer_models.attention import ReformerAttention
from reformer_models.config import ReformerConfig
from reformer_models.feed_forward import ReformerFeedForward
from reformer_models.hashing import BucketTrace, draw_rotations


class ReversibleLayer(nn.Module):
    """`y1 = x1 + attention(x2)`, `y2 = x2 + feed_forward(y1)`: both inputs can be computed back."""

    def __init__(self, config: ReformerConfig, kind: str, rotations: torch.Tensor | None) -> None:
        super().__init__()
        self.attention = ReformerAttention(config, kind, rotations)
        self.feed_forward = ReformerFeedForward(config)

    def forward(
        self, x1: torch.Tensor, x2: torch.Tensor, mask: torch.Tensor, trace: BucketTrace | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both streams `[batch, length, hidden]` -> the same."""
        y1 = x1 + self.attention(x2, mask, trace)
        y2 = x2 + self.feed_forward(y1)
        return y1, y2


class ReformerEncoder(nn.Module):
    """The layers and the norm over both streams."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        rotations = draw_rotations(config) if "lsh" in config.attn_layers else None
        self.layers = nn.ModuleList(
            ReversibleLayer(config, kind, rotations) for kind in config.attn_layers
        )
        self.layer_norm = nn.LayerNorm(2 * config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor, trace: BucketTrace | None
    ) -> torch.Tensor:
        """`[batch, length, hidden]` -> `[batch, length, 2 * hidden]`: both streams, normalised."""
        y1, y2 = hidden, hidden
        for layer in self.layers:
            y1, y2 = layer(y1, y2, mask, trace)
        result: torch.Tensor = self.layer_norm(torch.cat([y1, y2], dim=-1))
        return result
