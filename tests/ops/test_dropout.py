"""The mask of dropout: its definition and its statistics."""

from __future__ import annotations

import pytest
import torch

from reformer_ops.core.dropout_masks import keep

FIRSTS = (0, 2**31 - 100, 2**32 - 100)
"""First rows and columns; two of them cross the limit of signed or unsigned 32-bit integers."""

SHARES = (0.05, 0.5, 0.9)


def numbers(first: int, count: int) -> torch.Tensor:
    return first + torch.arange(count)


def mask(seed: int, share: float, size: int, *, row: int = 0, column: int = 0) -> torch.Tensor:
    """The mask `[size, size]` of the rows from `row` on and the columns from `column` on."""
    rows, columns = numbers(row, size)[:, None], numbers(column, size)
    return keep(torch.tensor(seed), rows, columns, share)


def defined(seed: int, row: int, column: int, share: float) -> bool:
    """The definition of docs/ops.md in Python integers."""
    x = (seed + (row + 1) * 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    key = (x ^ x >> 31) >> 32
    y = key ^ column % 2**32
    y = (y ^ y >> 16) * 0x7FEB352D % 2**32
    y = (y ^ y >> 15) * 0x846CA68B % 2**32
    return y >= int(share * 2**32)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("first", FIRSTS)
def test_the_definition(seed: int, first: int) -> None:
    found = mask(seed, 0.5, 16, row=first, column=first)
    wanted = [
        [defined(seed, first + row, first + column, 0.5) for column in range(16)]
        for row in range(16)
    ]
    assert found.tolist() == wanted


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seed", [0, 1, 2**62 + 12345])
def test_the_share_dropped(seed: int, share: float) -> None:
    """The share is right overall; in rows and columns it varies as it does for random draws."""
    size = 1024
    dropped = (~mask(seed, share, size)).double()
    variance = share * (1 - share)
    assert abs(dropped.mean() - share) < 5 * (variance / size**2) ** 0.5
    for axis in (0, 1):
        z = (dropped.mean(axis) - share) / (variance / size) ** 0.5
        assert z.abs().max() < 5
        # The mean of `size` squares of normal numbers is within 5 * sqrt(2 / size) of 1.
        assert abs(z.square().mean() - 1) < 5 * (2 / size) ** 0.5


def test_none_is_dropped_without_dropout() -> None:
    assert mask(3, 0.0, 64).all()
    assert not mask(3, 1 - 2**-53, 64).any()


@pytest.mark.parametrize("share", SHARES)
def test_neighbours_have_nothing_in_common(share: float) -> None:
    """Masks of other rows, columns or seeds correlate no more than random draws do."""
    size, room = 512, 1024
    whole = mask(7, share, room).double()
    here = whole[:size, :size]
    others = {("seed", s): mask(7 + s, share, size).double() for s in (1, 2, 64)}
    for step in (1, 2, 3, 16, 64, 256, 512):
        others["row", step] = whole[step : step + size, :size]
        others["column", step] = whole[:size, step : step + size]
        others["both", step] = whole[step : step + size, step : step + size]
    others["transposed", 0] = here.T
    for which, other in others.items():
        correlation = torch.corrcoef(torch.stack([here.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 5 / size, which
