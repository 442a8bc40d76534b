"""Attention to the nearest tokens and to a few global tokens, which all tokens see.

Source: "Longformer: The Long-Document Transformer", arXiv 2004.05150, section 3.1: the sliding
window, causal, and global tokens. The first tokens are the global ones, without projections of
their own. As this form is causal, they see only each other. There is no dilation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad

from benchmarks.baselines.self_attention import SelfAttention, softmax_attention
from reformer_export.errors import UsageError
from reformer_ops.core.torch_library import whole_chunks


class LongformerAttention(SelfAttention):
    """Each query sees the `window` tokens that end with its own, and the first `num_global`.

    Raises:
        UsageError: there are more global tokens than tokens in the window.
    """

    both_ways = False

    def __init__(self, replaced: Any, window: int, num_global: int) -> None:
        super().__init__(replaced)
        if num_global > window:
            raise UsageError(f"{num_global} global tokens: a window of {window} takes no more")
        self.window, self.num_global = window, num_global

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Three times `[batch, heads, length, head_dim]` -> the same."""
        length, window, first = query.shape[2], self.window, self.num_global
        chunks, padding = whole_chunks(length, window)

        def chunked(rows: torch.Tensor) -> torch.Tensor:
            return pad(rows, (0, 0, 0, padding)).unflatten(2, (chunks, window))

        def seen(rows: torch.Tensor) -> torch.Tensor:
            """For each chunk: the global rows, the rows of the previous chunk, its own rows."""
            own = chunked(rows)
            before = pad(own, (0, 0, 0, 0, 1, 0))[:, :, :-1]
            everywhere = own[:, :, :1, :first].expand(-1, -1, chunks, -1, -1)
            return torch.cat([everywhere, before, own], dim=3)

        visible = self._visible(chunks, query.device)
        attended = softmax_attention(chunked(query), seen(key), seen(value), visible)
        return attended.flatten(2, 3)[:, :, :length]

    def _visible(self, chunks: int, device: torch.device) -> torch.Tensor:
        """`[chunks, window, num_global + 2 * window]` bool: which of the rows a query attends to.

        A global token is seen once, in its own column, and not again within the window.
        """
        window, first = self.window, self.num_global
        start = window * torch.arange(chunks, device=device)[:, None, None]
        queries = start + torch.arange(window, device=device)[:, None]
        near = start + torch.arange(-window, window, device=device)
        inside = (near >= first) & (near <= queries) & (near > queries - window)
        return torch.cat([torch.arange(first, device=device) <= queries, inside], dim=-1)
