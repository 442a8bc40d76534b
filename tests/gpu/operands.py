"""Random tensors of the published attention layers, on a device."""

from __future__ import annotations

import copy

import torch

from reformer_export.bench.op_cases import ENWIK8, Layer, Operands

LAYERS = {"c&p": Layer("c&p", 2, 64, 64, 1, (64, 128)), "enwik8": ENWIK8}


def random_operands(layer: Layer, length: int, dtype: torch.dtype, device: str) -> Operands:
    """A layer's operators over random tensors; query_key, key and value are in `dtype`."""
    moved = Operands(layer, length)
    for name in ("query_key", "key", "value"):
        setattr(moved, name, getattr(moved, name).to(device, dtype))
    for name in ("rotations", "mask"):
        setattr(moved, name, getattr(moved, name).to(device))
    return moved


def first_tokens(operands: Operands, length: int) -> Operands:
    """The same layer over the first tokens only, without a copy of the tensors."""
    cut = copy.copy(operands)
    cut.length = length
    for name in ("query_key", "key", "value", "mask"):
        setattr(cut, name, getattr(operands, name)[:, :length])
    return cut
