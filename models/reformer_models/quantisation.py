"""Gives a loaded model weights of 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from torch import nn

from reformer_models.errors import ConfigError
from reformer_models.layers.embeddings import AxialPositionEmbeddings
from reformer_models.layers.heads import LMHead, ReformerForTask
from reformer_models.layers.linear import Linear
from reformer_models.layers.quantised import Int8Embedding, Int8Linear

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

WEIGHTS: Final = ("int8",)
"""Types that weights can be stored in, besides the model's own."""


def quantise(model: ReformerForTask, weights: str, keep: Sequence[str] = ()) -> tuple[str, ...]:
    """Replace linear layers and embeddings by ones with weights of `weights`; returns notes.

    Norms, biases, hash rotations, and weights of a size that the operator does not take keep their
    type. So do small heads: a classifier and the span head of question answering.

    Args:
        model: with its weights in fp32.
        weights: of `WEIGHTS`.
        keep: names of `GROUPS` that keep their type.

    Raises:
        ConfigError: an unknown type or group.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"unknown type of weights {weights!r}: choose {' or '.join(WEIGHTS)}")
    if unknown := [name for name in keep if name not in GROUPS]:
        raise ConfigError(
            f"there are no weights {unknown[0]!r} to keep: choose of {', '.join(GROUPS)}"
        )
    kept: list[str] = []
    for group, parent, name in list(_weights(model)):
        module = getattr(parent, name)
        if group in keep:
            continue
        if isinstance(module, nn.Embedding):
            setattr(parent, name, Int8Embedding(module.weight))
        elif isinstance(module, nn.ParameterList):
            tables = (weight.flatten(0, -2) for weight in module)
            setattr(parent, name, nn.ModuleList(Int8Embedding(table) for table in tables))
        elif Int8Linear.takes(module.weight):
            bias = parent.bias if isinstance(parent, LMHead) else module.bias
            setattr(parent, name, Int8Linear(module.weight, bias))
        else:
            kept.append(group)
    if not kept:
        return ()
    names = ", ".join(sorted(set(kept)))
    return (
        f"weights of {names} keep their type: a weight of 8 bits needs inputs in a multiple of 4 "
        "and outputs in a multiple of 16",
    )


def _weights(model: ReformerForTask) -> Iterator[tuple[str, nn.Module, str]]:
    """The group, the parent and the name of each module that can be replaced."""
    embeddings = model.reformer.embeddings
    yield "embeddings", embeddings, "word_embeddings"
    positions = embeddings.position_embeddings
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
