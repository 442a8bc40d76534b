"""Puts an operator into torch's dispatcher under the schema its spec declares."""

from __future__ import annotations

from collections.abc import Callable

import torch

from reformer_ops.errors import OpError
from reformer_ops.spec import DOMAIN, OpSpec

_LIBRARY = torch.library.Library(DOMAIN, "FRAGMENT")


def register(
    op: OpSpec, portable: Callable[..., torch.Tensor], fake: Callable[..., torch.Tensor]
) -> None:
    """Define `torch.ops.reformer.<torch_name>`.

    `portable` serves every device that has no kernel of its own; `fake` gives the output's shape
    and type, so that torch.export and torch.compile keep the operator as one node.
    """
    _LIBRARY.define(op.torch_schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(op.torch_name, portable, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{DOMAIN}::{op.torch_name}", fake, lib=_LIBRARY)


def check_operands(op: OpSpec, *tensors: torch.Tensor) -> dict[str, int]:
    """The size of every named axis; OpError where ranks, sizes or types do not fit the spec."""
    sizes: dict[str, int] = {}
    model_dtype: torch.dtype | None = None
    for operand, tensor in zip(op.inputs, tensors, strict=True):
        expected = f"{op.torch_name} takes {operand.name} as [{', '.join(operand.axes)}]"
        if tensor.dim() != len(operand.axes):
            raise OpError(f"{expected}; got shape {list(tensor.shape)}")
        for axis, size in zip(operand.axes, tensor.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise OpError(
                    f"{expected} with {axis} = {sizes[axis]} as in the inputs before it; "
                    f"got shape {list(tensor.shape)}"
                )
        if operand.dtype == "float":
            model_dtype = model_dtype or tensor.dtype
            fits = tensor.dtype == model_dtype and tensor.is_floating_point()
            wanted = "one floating type for all its float inputs"
        else:
            fits = tensor.dtype == getattr(torch, operand.dtype)
            wanted = operand.dtype
        if not fits:
            raise OpError(f"{op.torch_name} takes {wanted} for {operand.name}; got {tensor.dtype}")
    return sizes


def check_chunking(
    op: OpSpec, length: int, chunk_length: int, num_chunks_before: int, num_chunks_after: int
) -> None:
    """OpError unless `length` is at most one chunk or a whole number of chunks."""
    if chunk_length < 1 or num_chunks_before < 0 or num_chunks_after < 0:
        raise OpError(
            f"{op.torch_name} takes chunk_length >= 1 and non-negative numbers of neighbours; got "
            f"chunk_length {chunk_length}, before {num_chunks_before}, after {num_chunks_after}"
        )
    if length > chunk_length and length % chunk_length:
        raise OpError(
            f"{op.torch_name} takes a length of at most chunk_length or a multiple of it; got "
            f"length {length} with chunk_length {chunk_length}: pad the sequence, mask the padding"
        )
