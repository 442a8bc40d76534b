"""Attention with shared queries and keys that hashes nothing, in standard operators.

The rules are those of `SortedChunkAttention` (docs/ops.md): keys are queries of length one, and a
query sees itself only if it sees nothing else.
"""

from __future__ import annotations

import torch
from torch import nn

from reformer_ops.core.attention_masks import MASKED, SELF


def full_attention(
    query_key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, *, causal: bool
) -> torch.Tensor:
    """Attention to the whole sequence.

    Args:
        query_key: `[batch, length, heads, head_dim]`.
        value: the same.
        mask: `[batch, length]` bool, False for padding.
        causal: True if a query sees no later token.

    Returns:
        `[batch, length, heads, head_dim]`.
    """
    places = torch.arange(query_key.shape[1], device=query_key.device)
    is_self = places[:, None] == places
    visible = mask[:, None, None, :]
    if causal:
        visible = visible & (places[:, None] >= places)
    query, key, value = (t.transpose(1, 2) for t in (query_key, keys(query_key), value))
    return _attended(query, key, value, visible, is_self).transpose(1, 2)


def full_attention_step(
    query_key: torch.Tensor, key: torch.Tensor, value: torch.Tensor, length: torch.Tensor
) -> torch.Tensor:
    """Attention of one new token to itself and all tokens before it.

    Args:
        query_key: `[batch, heads, head_dim]` of the new token.
        key: `[batch, capacity, heads, head_dim]`, the `keys` of all tokens, by position.
        value: `[batch, capacity, heads, head_dim]`, by position.
        length: `[batch]` integers, the position of the new token.

    Returns:
        `[batch, heads, head_dim]`.
    """
    places, own = torch.arange(key.shape[1], device=key.device), length[:, None]
    return _step(query_key, key, value, places <= own, places == own)


def window_attention(
    query_key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, *, window: int, causal: bool
) -> torch.Tensor:
    """Attention to the query's own window and the window before, and after it if not causal.

    The windows are no ring: the first one has none before it.

    Args:
        query_key: `[batch, length, heads, head_dim]`.
        value: the same.
        mask: `[batch, length]` bool, False for padding.
        window: tokens in a window. The last window may have fewer.
        causal: True if a query sees no later token.

    Returns:
        `[batch, length, heads, head_dim]`.
    """
    length, device = query_key.shape[1], query_key.device
    count = (length + window - 1) // window
    # Windows are filled with copies of the last token, which are masked. No slices here and at the
    # end: an exporter would have to prove that they are within the tensor.
    slots = torch.arange(count * window, device=device)
    tokens = torch.minimum(slots, torch.full((1,), length - 1, device=device))

    def windows(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.index_select(1, tokens).unflatten(1, (count, window))

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        """`[batch, count, window, ..]` -> the same with two or three windows in the third axis."""
        nothing = torch.zeros_like(tensor[:, :1])
        extended = torch.cat([nothing, tensor] if causal else [nothing, tensor, nothing], dim=1)
        shifts = range(2 if causal else 3)
        return torch.cat([extended[:, shift : shift + count] for shift in shifts], dim=2)

    exists = mask.index_select(1, tokens) & (slots < length)
    queries = torch.arange(window, device=device)[:, None]
    seen_keys = torch.arange(-window, window if causal else 2 * window, device=device)
    visible = seen(exists.unflatten(1, (count, window)))[:, :, None, None, :]
    if causal:
        visible = visible & (seen_keys <= queries)
    query, value = windows(query_key), windows(value)
    query, key, value = (t.transpose(2, 3) for t in (query, seen(keys(query)), seen(value)))
    attended = _attended(query, key, value, visible, seen_keys == queries)
    attended = attended.transpose(2, 3).flatten(1, 2)
    return attended.index_select(1, torch.arange(length, device=device))


def window_attention_step(
    query_key: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    length: torch.Tensor,
    *,
    window: int,
) -> torch.Tensor:
    """Attention of one new token to its own window and the window before it.

    Args:
        query_key: `[batch, heads, head_dim]` of the new token.
        key: `[batch, 2 * window, heads, head_dim]`, the `keys` of the last tokens: the token at
            position p has the index p modulo 2 * window.
        value: `[batch, 2 * window, heads, head_dim]`, in the same order.
        length: `[batch]` integers, the position of the new token.
        window: tokens in a window.

    Returns:
        `[batch, heads, head_dim]`.
    """
    own = length[:, None]
    age = (own - torch.arange(2 * window, device=key.device)) % (2 * window)
    first = (own // window - 1) * window
    visible = (age <= own - first) & (age <= own)
    return _step(query_key, key, value, visible, age == 0)


def keys(query_key: torch.Tensor) -> torch.Tensor:
    """Queries `[.., head_dim]` of length one, computed in fp32."""
    rows = query_key.to(torch.float32)
    return nn.functional.normalize(rows, dim=-1).to(query_key.dtype)


def _step(
    query_key: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visible: torch.Tensor,
    is_self: torch.Tensor,
) -> torch.Tensor:
    """`[batch, heads, head_dim]` and twice `[batch, tokens, heads, head_dim]` -> the first shape;
    the others are bool `[batch, tokens]`."""
    key, value = key.transpose(1, 2), value.transpose(1, 2)
    visible, is_self = visible[:, None, None], is_self[:, None, None]
    return _attended(query_key[:, :, None], key, value, visible, is_self)[:, :, 0]


def _attended(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visible: torch.Tensor,
    is_self: torch.Tensor,
) -> torch.Tensor:
    """`[.., queries, head_dim]` and `[.., keys, head_dim]` -> `[.., queries, head_dim]`; the others
    are bool and broadcast to `[.., queries, keys]`."""
    scores = (query @ key.transpose(-1, -2)).to(torch.float32)
    scores = scores.masked_fill(~visible, MASKED).masked_fill(is_self, SELF)
    return scores.softmax(dim=-1).to(value.dtype) @ value
