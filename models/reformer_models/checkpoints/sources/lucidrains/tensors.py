"""Gives the tensors of reformer-pytorch the names and values that our model has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from reformer_models.checkpoints.sources.base import Tensors
from reformer_models.checkpoints.sources.lucidrains import layers
from reformer_models.checkpoints.sources.lucidrains.arguments import (
    CONFIG_FILE,
    ReformerArguments,
    ReformerLMArguments,
)
from reformer_models.checkpoints.sources.state import check_tensors, without_prefix
from reformer_models.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_WORDS: Final = "token_emb.weight"
_OUR_WORDS: Final = "reformer.embeddings.word_embeddings.weight"
_OUTSIDE_LAYERS: Final = {
    _WORDS: _OUR_WORDS,
    "norm.weight": "reformer.encoder.layer_norm.weight",
    "norm.bias": "reformer.encoder.layer_norm.bias",
}
_POSITIONS: Final = "reformer.embeddings.position_embeddings.embedding.weight"
_HEAD: Final = {"out.1.weight": "lm_head.decoder.weight", "out.1.bias": "lm_head.bias"}

# The layers between embeddings of another size and the model, if there are any.
_TO_DIM: Final = ("to_model_dim.weight", "to_model_dim.bias")
_FROM_DIM: Final = ("out.0.weight", "out.0.bias")

# A tied head has its weight twice.
_TIED_HEAD: Final = "out.1.tensor"


def translated(tensors: Tensors, arguments: ReformerArguments | ReformerLMArguments) -> Tensors:
    """All tensors of our model, from those of the package, in fp32.

    Raises:
        CheckpointError: The weights do not fit the arguments.
    """
    if isinstance(arguments, ReformerLMArguments):
        return _of_language_model(tensors, arguments)
    tensors = without_prefix(tensors, layers.first_name(arguments))
    return _checked(tensors, arguments, dict(layers.names(arguments)))


def _of_language_model(tensors: Tensors, arguments: ReformerLMArguments) -> Tensors:
    tensors = without_prefix(tensors, _WORDS)
    names = {**_OUTSIDE_LAYERS, **dict(layers.names(arguments))}
    if not (arguments.return_embeddings or arguments.weight_tie_embedding):
        names |= _HEAD
    positions = _position_names(arguments)
    others = (*positions, *_other_names(arguments))
    state = _checked(tensors, arguments, names, others, (_TIED_HEAD,))
    weights = [tensors[name].float() for name in positions]
    if arguments.rotary:
        _check_frequencies(weights[0], arguments)
    if arguments.full or not arguments.rotary:
        state[_POSITIONS] = _position_table(weights, arguments)
    if arguments.weight_tie_embedding and not arguments.return_embeddings:
        import torch

        words = tensors[_WORDS].float()
        state["lm_head.decoder.weight"] = torch.nn.functional.normalize(words, dim=-1)
        state["lm_head.bias"] = torch.zeros_like(words[:, 0])
    if arguments.embedding_size != arguments.dim:
        _merge_embedding_size(state, tensors, arguments)
    return state


def _checked(
    tensors: Tensors,
    arguments: ReformerArguments | ReformerLMArguments,
    names: Mapping[str, str],
    others: Collection[str] = (),
    unread: tuple[str, ...] = (),
) -> Tensors:
    """The tensors that `names` translates, with finished layers; `others` must be there, too, and
    those that begin with `unread` may be."""
    check_tensors(
        tensors,
        {*names, *others, *layers.other_names(arguments)},
        unread=(layers.duplicates(arguments), *unread),
        model=f"a {arguments.class_name} with the arguments in {CONFIG_FILE}",
    )
    # In fp32, because some are multiplied or added.
    state = {ours: tensors[theirs].float() for theirs, ours in names.items()}
    layers.finish(state, tensors, arguments)
    return state


def _merge_embedding_size(state: Tensors, tensors: Tensors, arguments: ReformerLMArguments) -> None:
    """Multiply the layers between `emb_dim` and `dim` into embeddings and head."""
    weight, bias = (tensors[name].float() for name in _TO_DIM)
    state[_OUR_WORDS] = state[_OUR_WORDS] @ weight.T + bias
    if _POSITIONS in state:
        state[_POSITIONS] = state[_POSITIONS] @ weight.T
    if not arguments.return_embeddings:
        weight, bias = (tensors[name].float() for name in _FROM_DIM)
        decoder = state["lm_head.decoder.weight"]
        state["lm_head.bias"] = state["lm_head.bias"] + decoder @ bias
        state["lm_head.decoder.weight"] = decoder @ weight


def _other_names(arguments: ReformerLMArguments) -> Iterator[str]:
    """The package's names of tensors around the layers that our model has in another form."""
    if arguments.embedding_size != arguments.dim:
        yield from _TO_DIM if arguments.return_embeddings else (*_TO_DIM, *_FROM_DIM)


def _position_names(arguments: ReformerLMArguments) -> list[str]:
    # The package looks at its options in this order.
    if arguments.axial_position_emb:
        return [f"pos_emb.weights.{axis}" for axis, _ in enumerate(arguments.axial_shape)]
    if arguments.rotary:
        return ["layer_pos_emb.inv_freq"]
    return ["pos_emb.emb.weight" if arguments.absolute_position_emb else "pos_emb.inv_freq"]


def _check_frequencies(found: torch.Tensor, arguments: ReformerLMArguments) -> None:
    """CheckpointError if rotary positions have frequencies that the package never writes."""
    import torch

    places = torch.arange(0, arguments.head_size, 2) / arguments.head_size
    expected = 10000.0**-places
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0.01):
        raise CheckpointError(
            f"layer_pos_emb.inv_freq is not what the package computes for dim_head = "
            f"{arguments.head_size}: the file and the weights do not belong together"
        )


def _position_table(weights: list[torch.Tensor], arguments: ReformerLMArguments) -> torch.Tensor:
    """One embedding for each position, `[positions, emb_dim]`, of any kind of positions.

    Zeros for rotary positions, which full attention leaves out.
    """
    import torch

    count, size = arguments.positions, arguments.embedding_size
    if arguments.rotary:
        return torch.zeros(count, size)
    if arguments.axial_position_emb:
        grid = (*arguments.axial_shape, size)
        for axis, (weight, rows) in enumerate(zip(weights, arguments.axial_shape, strict=True)):
            expected = [1] * (len(grid) + 1)
            expected[axis + 1], expected[-1] = rows, size
            if list(weight.shape) != expected:
                raise CheckpointError(
                    f"pos_emb.weights.{axis} is {list(weight.shape)}, but {CONFIG_FILE} asks for "
                    f"{expected}: the file and the weights do not match"
                )
        table = sum(weight[0].expand(grid) for weight in weights)
        return torch.as_tensor(table).reshape(-1, size)[:count]
    if arguments.absolute_position_emb:
        return weights[0]
    angles = torch.arange(count)[:, None] * weights[0]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
