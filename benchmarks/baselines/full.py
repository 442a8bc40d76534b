"""Softmax attention over the whole sequence, as in the standard Transformer.

Source: "Attention Is All You Need", arXiv 1706.03762, section 3.2.
"""

from __future__ import annotations

import torch

from benchmarks.baselines.self_attention import SelfAttention, softmax_attention


class FullAttention(SelfAttention):
    """Time and memory grow with the square of the length."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """The tensors and the result have the shape `[batch, heads, length, head_dim]`."""
        visible = mask[:, None, None, :]
        if self.causal:
            positions = torch.arange(query.shape[2], device=query.device)
            visible = positions <= positions[:, None]
        return softmax_attention(query, key, value, visible)
