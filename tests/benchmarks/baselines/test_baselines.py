"""Compares every baseline with its formula in fp64, with all scores in one matrix."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.baselines.full import FullAttention
from benchmarks.baselines.linformer import LinformerAttention
from benchmarks.baselines.longformer import LongformerAttention
from benchmarks.baselines.performer import PerformerAttention, draw_directions
from benchmarks.baselines.self_attention import SelfAttention
from reformer_export.errors import UsageError

HEADS, DIM = 2, 8
LENGTHS = (1, 5, 16, 17, 50)
Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def layer(*, causal: bool) -> SimpleNamespace:
    """The attributes of a local layer that its replacement takes over."""
    projections = (nn.Linear(HEADS * DIM, HEADS * DIM, bias=False).double() for _ in range(3))
    query, key, value = projections
    return SimpleNamespace(
        head_shape=(HEADS, DIM), causal=causal, query=query, key=key, value=value
    )


def rows(length: int, seed: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(3, 2, HEADS, length, DIM, generator=generator, dtype=torch.float64)
    query, key, value = drawn
    return query, key, value


def all_present(length: int) -> torch.Tensor:
    return torch.ones(2, length, dtype=torch.bool)


def half_present(length: int) -> torch.Tensor:
    """Mask: the first sequence is complete, the second is padded from its middle on."""
    return torch.arange(length) < torch.tensor([[length], [max(1, length // 2)]])


def by_matrix(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """Softmax attention to `visible` (`[.., queries, keys]`); no maximum is subtracted."""
    weights = torch.exp(query @ key.transpose(-1, -2) / math.sqrt(DIM)) * visible
    return weights / weights.sum(dim=-1, keepdim=True) @ value


def earlier(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


@pytest.mark.parametrize("length", LENGTHS)
def test_full_attention(length: int) -> None:
    query, key, value = rows(length)
    found = FullAttention(layer(causal=True)).attend(query, key, value, all_present(length))
    torch.testing.assert_close(found, by_matrix(query, key, value, earlier(length)))

    mask = half_present(length)
    found = FullAttention(layer(causal=False)).attend(query, key, value, mask)
    torch.testing.assert_close(found, by_matrix(query, key, value, mask[:, None, None, :]))


@pytest.mark.parametrize("length", LENGTHS)
def test_linformer_without_mixing_is_full_attention(length: int) -> None:
    """The mixture matrix is the identity: each mixed key or value comes from one position only."""
    attention = LinformerAttention(layer(causal=False), length, length, seed=0)
    attention.mixture = nn.Parameter(torch.eye(length, dtype=torch.float64))
    query, key, value = rows(length)
    found = attention.attend(query, key, value, all_present(length))
    everything = torch.ones(length, length)
    torch.testing.assert_close(found, by_matrix(query, key, value, everything))


@pytest.mark.parametrize("length", LENGTHS)
def test_linformer(length: int) -> None:
    rank, mask = 4, half_present(length)
    attention = LinformerAttention(layer(causal=False), 60, rank, seed=1).double()
    query, key, value = rows(length)
    mixed = []
    for one in (key, value):
        sums = torch.zeros(2, HEADS, rank, DIM, dtype=torch.float64)
        for batch in range(2):
            for position in range(int(mask[batch].sum())):
                weights = attention.mixture[:, position]
                sums[batch] += weights[None, :, None] * one[batch, :, position, None, :]
        mixed.append(sums)
    found = attention.attend(query, key, value, mask)
    torch.testing.assert_close(found, by_matrix(query, *mixed, torch.ones(length, rank)))


def test_linformer_has_no_weights_beyond_its_longest_sequence() -> None:
    attention = LinformerAttention(layer(causal=False), 16, 4, seed=1).double()
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        attention.attend(*rows(17), all_present(17))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("window", "first"), [(16, 1), (16, 3), (4, 0), (1, 1), (3, 3)])
def test_longformer_is_attention_under_a_band(length: int, window: int, first: int) -> None:
    query, key, value = rows(length)
    visible = torch.zeros(length, length)
    for position in range(length):
        visible[position, max(0, position - window + 1) : position + 1] = 1
        visible[position, : min(first, position + 1)] = 1
    attention = LongformerAttention(layer(causal=True), window, first)
    found = attention.attend(query, key, value, all_present(length))
    torch.testing.assert_close(found, by_matrix(query, key, value, visible))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("causal", [True, False])
def test_performer_is_its_kernel_matrix(length: int, causal: bool) -> None:
    """phi(x) = exp(w x - |x|^2 / 2), with x scaled by head_dim^(-1/4)."""
    attention = PerformerAttention(layer(causal=causal), 12, 16, seed=0).double()
    attention.epsilon = 0.0
    query, key, value = rows(length)
    mask = half_present(length)

    def features(x: torch.Tensor) -> torch.Tensor:
        x = x / DIM**0.25
        return torch.exp(x @ attention.directions.T - (x * x).sum(-1, keepdim=True) / 2)

    kernel = features(query) @ features(key).transpose(-1, -2)
    kernel = kernel * (earlier(length) if causal else mask[:, None, None, :])
    wanted = kernel @ value / kernel.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(attention.attend(query, key, value, mask), wanted)


@pytest.mark.parametrize("causal", [True, False])
def test_performer_comes_near_full_attention_with_many_features(causal: bool) -> None:
    query, key, value = rows(40)
    query, key = query / 2, key / 2
    mask = all_present(40)
    wanted = FullAttention(layer(causal=causal)).attend(query, key, value, mask)
    errors = [
        (
            PerformerAttention(layer(causal=causal), count, 16, seed=0)
            .double()
            .attend(query, key, value, mask)
            - wanted
        )
        .square()
        .mean()
        .sqrt()
        .item()
        for count in (16, 4096)
    ]
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 4  # the expected factor is about the square root of 256


def test_performer_does_not_overflow() -> None:
    attention = PerformerAttention(layer(causal=True), 64, 16, seed=0)
    query, key, value = (30 * one.float() for one in rows(50))
    assert torch.isfinite(attention.attend(query, key, value, all_present(50))).all()


def test_directions_are_orthogonal_within_blocks_and_as_long_as_gaussian_ones() -> None:
    drawn = draw_directions(1024, 32, seed=0)
    block = drawn[:32] @ drawn[:32].T
    off_diagonal = block - torch.diag(block.diagonal())
    assert off_diagonal.abs().max() < 1e-4
    assert drawn.square().sum(dim=-1).mean() == pytest.approx(32, rel=0.05)
    assert drawn.mean().abs() < 0.02
    assert draw_directions(40, 32, seed=0).shape == (40, 32)


def _baselines(*, causal: bool) -> list[SelfAttention]:
    own = layer(causal=causal)
    found: list[SelfAttention] = [FullAttention(own), PerformerAttention(own, 12, 8, seed=0)]
    if causal:
        return [*found, LongformerAttention(own, 8, 2)]
    return [*found, LinformerAttention(own, 50, 4, seed=0)]


@pytest.mark.parametrize("causal", [True, False])
def test_as_part_of_a_layer(causal: bool) -> None:
    """Projections, heads and gradients.

    In a causal layer no position sees later positions; in a bidirectional layer no position sees
    padding.
    """
    mask = half_present(50)
    for attention in _baselines(causal=causal):
        attention.double()
        hidden = torch.randn(2, 50, HEADS * DIM, dtype=torch.float64, requires_grad=True)
        output = attention(hidden, mask, None)
        assert output.shape == hidden.shape
        (gradient,) = torch.autograd.grad(output[:, 20].sum(), hidden)
        unseen = gradient[:, 21:] if causal else gradient[1, 25:]
        assert unseen.abs().max() == 0, type(attention).__name__
        assert gradient[:, :21].abs().sum() > 0
        assert (gradient[0, 21:].abs().sum() > 0) != causal


def test_what_cannot_be_says_so() -> None:
    with pytest.raises(UsageError, match="LinformerAttention cannot be causal"):
        LinformerAttention(layer(causal=True), 16, 4, seed=0)
    with pytest.raises(UsageError, match="LongformerAttention cannot be bidirectional"):
        LongformerAttention(layer(causal=False), 16, 1)
    with pytest.raises(UsageError, match="5 global tokens: a window of 4"):
        LongformerAttention(layer(causal=True), 4, 5)
