"""Rotary positions: a vector is turned by angles that grow with its position."""

from __future__ import annotations

from typing import Final

import torch

_BASE: Final = 10000.0


def frequencies(size: int) -> torch.Tensor:
    """The angle of each pair of numbers at position 1, `[size / 2]` fp32."""
    return 1.0 / (_BASE ** (torch.arange(0, size, 2, dtype=torch.float32) / size))


def rotary(vectors: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Turn each pair of neighbouring numbers of a vector by its position times a frequency.

    Args:
        vectors: `[..., heads, head_dim]`, of any floating type; `head_dim` is even.
        positions: integers that broadcast to `[...]`.

    Returns:
        `vectors`, turned; the angles are computed in fp32.
    """
    rates = frequencies(vectors.shape[-1]).to(vectors.device)
    angles = (positions[..., None].to(torch.float32) * rates)[..., None, :]
    sin, cos = angles.sin().to(vectors.dtype), angles.cos().to(vectors.dtype)
    first, second = vectors.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.stack(turned, dim=-1).flatten(-2)
