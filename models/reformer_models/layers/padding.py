"""Padding of sequences to whole chunks, in eager code and in exported graphs."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn


def padding_of(length: int, *, multiple: int, shortest: int = 0) -> int:
    """The number of positions to add: none up to a length of `shortest`, else up to a multiple.

    An exported graph computes this number at run time: otherwise every later shape would
    contain the formula of the traced length.
    """
    if not torch.compiler.is_exporting():
        return 0 if length <= shortest else -length % multiple
    before_last = torch.scalar_tensor(length - 1, dtype=torch.int64)
    to_multiple = (multiple - 1) - before_last % multiple
    if shortest:
        # No padding at all up to the smallest chunk length: `beyond` is 0 there, otherwise 1.
        # `minimum`, not `clamp`: with a `clamp` without a lower bound, ONNX Runtime's CUDA provider
        # computes this number, and all later shapes, on the GPU.
        one = torch.scalar_tensor(1, dtype=torch.int64)
        beyond = torch.minimum(before_last // shortest, one)
        to_multiple = beyond * to_multiple
    padding = cast(int, to_multiple.item())
    torch._check(padding >= 0)
    return padding


def padded(
    sequences: torch.Tensor, shape: torch.Size, padding: int, *, multiple: int, value: float
) -> torch.Tensor:
    """`[batch, length, ..]` (`shape`) -> `[batch, length + padding, ..]`, with `value` at the end.

    An exported graph appends the largest possible padding and cuts it: ONNX Runtime's CUDA
    provider has no `Pad` for integers, and not every runtime accepts tensors without elements.
    """
    if not torch.compiler.is_exporting():
        inner = (0, 0) * (len(shape) - 2)
        return nn.functional.pad(sequences, (*inner, 0, padding), value=value)
    batch, length, *others = shape
    most = multiple - 1
    if most == 0:
        return sequences
    end = sequences.new_full((1,), value).expand(batch, most, *others)
    torch._check(padding <= most)
    return torch.cat([sequences, end], dim=1).narrow(1, 0, length + padding)
