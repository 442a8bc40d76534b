"""Computes which elements dropout keeps from seed, row and column, as `csrc/dropout.h` does."""

from __future__ import annotations

import torch

_LOWER_HALF = 0xFFFFFFFF


def draw_seed(probability: float, device: torch.device) -> torch.Tensor:
    """A seed from the generator of the device: int64, one number.

    It is 0 if nothing is dropped; then the generator does not advance.
    """
    if not probability:
        return torch.zeros((), dtype=torch.int64, device=device)
    return torch.randint(2**63 - 1, (), dtype=torch.int64, device=device)


def keep(
    seed: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, probability: float
) -> torch.Tensor:
    """True for the elements of a matrix that are kept if a share `probability` is dropped.

    Args:
        seed: int64, one number.
        rows, columns: int64, the indices of the elements; their shapes must broadcast.
        probability: in [0, 1).

    Returns:
        Bool, of the shape that `rows` and `columns` broadcast to.
    """
    # lowbias32 without its last step, in the lower half of 64 bits.
    hashed = _row_keys(seed, rows) ^ (columns & _LOWER_HALF)
    hashed = ((hashed ^ (hashed >> 16)) * 0x7FEB352D) & _LOWER_HALF
    hashed = ((hashed ^ (hashed >> 15)) * 0x846CA68B) & _LOWER_HALF
    return hashed >= int(probability * 2**32)


def factors(
    seed: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    probability: float,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The factors that dropout multiplies elements by: 0, or 1 / (1 - probability)."""
    return keep(seed, rows, columns, probability).to(dtype) * (1 / (1 - probability))


def _row_keys(seed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The upper halves of SplitMix64's numbers. Products of int64 wrap around, as required."""
    x = seed + (rows + 1) * _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(x ^ _shifted(x, 31), 32)


def _signed(bits: int) -> int:
    return bits - 2**64


def _shifted(x: torch.Tensor, places: int) -> torch.Tensor:
    """Shift right, filling with zeros."""
    return (x >> places) & (2 ** (64 - places) - 1)
