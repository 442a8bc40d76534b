"""Attention that hashes nothing, held against its definition, one query at a time."""

from __future__ import annotations

import pytest
import torch

from reformer_models.layers.dense_attention import (
    full_attention,
    full_attention_step,
    keys,
    window_attention,
    window_attention_step,
)

WINDOW = 4


def defined(
    query_key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    window: int,
    causal: bool,
) -> torch.Tensor:
    """In fp64, with a window of the sequence's length for full attention."""
    query_key, value = query_key.double(), value.double()
    key = query_key / query_key.norm(dim=-1, keepdim=True)
    output = torch.empty_like(value)
    batch, length, heads, _ = value.shape
    for row in range(batch):
        for i in range(length):
            last = i if causal else (i // window + 2) * window - 1
            near = range(max(0, (i // window - 1) * window), min(last + 1, length))
            seen = [j for j in near if mask[row, j] and j != i] or [i]
            for head in range(heads):
                weights = torch.softmax(key[row, seen, head] @ query_key[row, i, head], 0)
                output[row, i, head] = weights @ value[row, seen, head]
    return output


def tensors(length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(length)
    query_key, value = 3 * torch.randn(2, 2, length, 3, 8)
    mask = torch.arange(length) < torch.tensor([[length], [1 + length // 2]])
    return query_key, value, mask


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 13, 20])
def test_windows(length: int, causal: bool) -> None:
    query_key, value, mask = tensors(length)
    found = window_attention(query_key, value, mask, window=WINDOW, causal=causal)
    expected = defined(query_key, value, mask, WINDOW, causal).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 2, 13])
def test_the_whole_sequence(length: int, causal: bool) -> None:
    query_key, value, mask = tensors(length)
    found = full_attention(query_key, value, mask, causal=causal)
    expected = defined(query_key, value, mask, length, causal).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_step_over_the_whole_sequence() -> None:
    query_key, value, _ = tensors(13)
    expected = full_attention(query_key, value, torch.ones(2, 13, dtype=torch.bool), causal=True)
    for place in (0, 1, 12):
        length = torch.full((2,), place)
        found = full_attention_step(query_key[:, place], keys(query_key), value, length)
        torch.testing.assert_close(found, expected[:, place], rtol=0, atol=1e-5)


def test_a_step_over_windows() -> None:
    query_key, value, _ = tensors(20)
    mask = torch.ones(2, 20, dtype=torch.bool)
    expected = window_attention(query_key, value, mask, window=WINDOW, causal=True)
    ring, ring_value = torch.zeros(2, 2, 2 * WINDOW, 3, 8)
    for place in range(20):
        ring[:, place % (2 * WINDOW)] = keys(query_key[:, place])
        ring_value[:, place % (2 * WINDOW)] = value[:, place]
        length = torch.full((2,), place)
        found = window_attention_step(query_key[:, place], ring, ring_value, length, window=WINDOW)
        torch.testing.assert_close(found, expected[:, place], rtol=0, atol=1e-5)
