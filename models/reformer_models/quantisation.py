"""Gives a loaded model weights of fewer bits."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

import torch
from torch import nn
from torch.nn.utils import parametrize

from reformer_models.errors import ConfigError
from reformer_models.layers.embeddings import AxialPositionEmbeddings
from reformer_models.layers.heads import LMHead, ReformerForTask
from reformer_models.layers.linear import Linear
from reformer_models.layers.quantised import Int4Linear, Int8Embedding, Int8Linear, QuantisedLinear

GROUPS: Final = (
    "query_key",
    "query",
    "key",
    "value",
    "attention_output",
    "feed_forward",
    "head",
    "embeddings",
)
"""Groups of weights that can keep their type. `query_key` decides the buckets of LSH layers;
`query` and `key` are those of local layers."""

WEIGHTS: Final = ("int8", "int4", "fp16")
"""Types that weights can be stored in, besides the model's own."""

_LINEAR: Final[dict[str, type[QuantisedLinear]]] = {"int8": Int8Linear, "int4": Int4Linear}
_NEEDED: Final = {
    "int8": "8 bits needs inputs in a multiple of 4",
    "int4": "4 bits needs inputs in a multiple of 32",
}
_LARGEST: Final = torch.finfo(torch.float16).max


def quantise(model: ReformerForTask, weights: str, keep: Sequence[str] = ()) -> tuple[str, ...]:
    """Give linear layers and embeddings weights of the type `weights`; returns notes.

    With "int8" and "int4" they are replaced; embeddings have 8 bits in both. With "fp16" the
    numbers are rounded, and the model computes with them in fp32; see `stored_as_fp16`.

    Norms, biases, hash rotations, and weights of a size that the operator does not take keep their
    type. So do small heads: a classifier and the span head of question answering.

    Args:
        model: with its weights in fp32.
        weights: of `WEIGHTS`.
        keep: names of `GROUPS` that keep their type.

    Raises:
        ConfigError: an unknown type or group, or a weight that is too large for fp16.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"unknown type of weights {weights!r}: choose {' or '.join(WEIGHTS)}")
    if unknown := [name for name in keep if name not in GROUPS]:
        raise ConfigError(
            f"there are no weights {unknown[0]!r} to keep: choose one of {', '.join(GROUPS)}"
        )
    kept: list[str] = []
    for group, parent, name in list(_weights(model)):
        module = getattr(parent, name)
        if group in keep:
            continue
        if weights == "fp16":
            _round_to_fp16(module, group)
        elif isinstance(module, nn.Embedding):
            setattr(parent, name, Int8Embedding(module.weight))
        elif isinstance(module, nn.ParameterList):
            tables = (weight.flatten(0, -2) for weight in module)
            setattr(parent, name, nn.ModuleList(Int8Embedding(table) for table in tables))
        elif _LINEAR[weights].takes(module.weight):
            bias = parent.bias if isinstance(parent, LMHead) else module.bias
            setattr(parent, name, _LINEAR[weights](module.weight, bias))
        else:
            kept.append(group)
    if not kept:
        return ()
    names = ", ".join(sorted(set(kept)))
    return (
        f"weights of {names} keep their type: a weight of {_NEEDED[weights]} and outputs in a "
        "multiple of 16",
    )


def stored_as_fp16(model: ReformerForTask) -> ReformerForTask:
    """A copy of a model that keeps matrices in fp16, and converts them to fp32 when it uses them.

    Only matrices that lose nothing by it, so the results are the same.
    """
    copied = copy.deepcopy(model)
    for module in list(copied.modules()):
        of_module = (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, weight in [*chain(*of_module)]:
            if weight.dtype != torch.float32 or weight.dim() < 2:
                continue
            if torch.equal(weight.half().float(), weight):
                setattr(module, name, nn.Parameter(weight.half(), requires_grad=False))
                # unsafe: the parametrization changes the type.
                parametrize.register_parametrization(module, name, _InFp32(), unsafe=True)
    return copied


class _InFp32(nn.Module):
    def forward(self, stored: torch.Tensor) -> torch.Tensor:
        return stored.to(torch.float32)


def _round_to_fp16(module: nn.Module, group: str) -> None:
    """Round the matrices of a module to numbers that fp16 has."""
    for weight in module.parameters():
        if weight.dim() == 1:
            continue
        largest = float(weight.detach().abs().max())
        if largest > _LARGEST:
            raise ConfigError(
                f"a weight of {group} is {largest:g}, and fp16 ends at {_LARGEST:g}: keep them "
                f"with --keep {group}"
            )
        weight.data = weight.data.half().float()


def _weights(model: ReformerForTask) -> Iterator[tuple[str, nn.Module, str]]:
    """The group, the parent and the name of each module that can be replaced."""
    embeddings = model.reformer.embeddings
    yield "embeddings", embeddings, "word_embeddings"
    positions = embeddings.position_embeddings
    if positions is not None:
        axial = isinstance(positions, AxialPositionEmbeddings)
        yield "embeddings", positions, "weights" if axial else "embedding"
    for path, module in model.reformer.encoder.named_modules():
        for name, child in module.named_children():
            if isinstance(child, Linear):
                yield _group(f"{path}.{name}"), module, name
    if isinstance(head := getattr(model, "lm_head", None), LMHead):
        yield "head", head, "decoder"


def _group(path: str) -> str:
    """The group of a linear layer of the encoder."""
    if ".feed_forward." in path:
        return "feed_forward"
    return "attention_output" if ".attention.output." in path else path.rpartition(".")[2]
