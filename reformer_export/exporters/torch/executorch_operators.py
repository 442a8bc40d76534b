"""Torch operators that ExecuTorch lacks or computes otherwise, as operators that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_aten = torch.ops.aten


def _sort(
    values: torch.Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """A stable sort of integers. ExecuTorch has no sort, and its `topk` is not stable: no two of
    these keys are equal."""
    length = values.shape[dim]
    positions = torch.arange(length, device=values.device)
    if descending:
        positions = length - 1 - positions
    keys = values.to(torch.int64) * length + positions
    order = torch.topk(keys, length, dim=dim, largest=descending, sorted=True).indices
    return torch.gather(values, dim, order), order


def _remainder(values: torch.Tensor, divisor: Any) -> torch.Tensor:
    """The remainder with the sign of the divisor. ExecuTorch gives that of the dividend."""
    return values - torch.div(values, divisor, rounding_mode="floor") * divisor


def _slice(
    values: torch.Tensor, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Any:
    """A slice up to a size that is known at run time. ExecuTorch's conversion would have to prove
    that the size is within the tensor."""
    if end is None or type(end) is int:
        return NotImplemented
    places = torch.arange(start or 0, end, step, device=values.device)
    return torch.index_select(values, dim, places)


def _empty_like(values: torch.Tensor, **options: Any) -> torch.Tensor:
    """Zeros: ExecuTorch has no operator that leaves its result empty."""
    return torch.zeros_like(values, **options)


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    _aten.sort.stable: _sort,
    _aten.remainder.Scalar: _remainder,
    _aten.remainder.Tensor: _remainder,
    _aten.slice.Tensor: _slice,
    _aten.empty_like.default: _empty_like,
}
"""For `ExportedProgram.run_decompositions`; all others stay as they are."""
