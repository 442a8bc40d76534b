"""Checks that a checkpoint has the tensors of the model that its configuration describes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from reformer_models.errors import CheckpointError, some

if TYPE_CHECKING:
    import torch

    from reformer_models.checkpoints.sources.base import Tensors


def without_prefix(tensors: Tensors, name: str) -> Tensors:
    """The tensors without the prefix of a module that contains the model, like "module.".

    `name` is a tensor that every such model has. If several names end with it, the shortest counts.
    """
    prefixes = [found.removesuffix(name) for found in tensors if found.endswith(name)]
    prefix = min(prefixes, key=len, default="")
    return {found.removeprefix(prefix): tensor for found, tensor in tensors.items()}


def check_tensors(
    tensors: Mapping[str, torch.Tensor],
    expected: Collection[str],
    *,
    unread: tuple[str, ...] = (),
    model: str,
) -> None:
    """Check that a checkpoint has the tensors that its model has.

    Args:
        tensors: The checkpoint's tensors.
        expected: The names of the model's tensors, in the library's spelling.
        unread: Beginnings of names that may be there, too.
        model: The model, for error messages, such as "a ReformerLM with the arguments in ...".

    Raises:
        CheckpointError: Tensors are missing, there are others, or one is not of a floating type.
    """
    apart = "the file and the weights do not belong together"
    if missing := sorted(set(expected) - tensors.keys()):
        raise CheckpointError(f"the weights lack {some(missing)}, which {model} has: {apart}")
    others = tensors.keys() - set(expected)
    if unexpected := sorted(name for name in others if not name.startswith(unread)):
        raise CheckpointError(
            f"the weights have {some(unexpected)}, which {model} does not have: {apart}"
        )
    for name in expected:
        if not tensors[name].is_floating_point():
            raise CheckpointError(
                f"{name} is {tensors[name].dtype}, perhaps of a quantized model: take the weights "
                "it was made from"
            )
