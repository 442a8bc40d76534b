"""The tensors of the layers, which both classes of reformer-pytorch have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from reformer_models.checkpoints.sources.base import Tensors
from reformer_models.checkpoints.sources.lucidrains.arguments import CONFIG_FILE, LayerArguments
from reformer_models.errors import CheckpointError

if TYPE_CHECKING:
    import torch

# The tensors of a layer: the package's name and ours.
_LAYER: Final[Mapping[str, str]] = {
    "f.net.fn.toqk.weight": "attention.self_attention.query_key.weight",
    "f.net.fn.tov.weight": "attention.self_attention.value.weight",
    "f.net.fn.to_out.weight": "attention.output.dense.weight",
    "f.net.fn.to_out.bias": "attention.output.dense.bias",
    "g.net.fn.fn.w1.weight": "feed_forward.dense.dense.weight",
    "g.net.fn.fn.w1.bias": "feed_forward.dense.dense.bias",
    "g.net.fn.fn.w2.weight": "feed_forward.output.dense.weight",
    "g.net.fn.fn.w2.bias": "feed_forward.output.dense.bias",
}
_NORMS: Final[Mapping[str, Mapping[str, str]]] = {
    "layer": {
        "f.net.norm.weight": "attention.layer_norm.weight",
        "f.net.norm.bias": "attention.layer_norm.bias",
        "g.net.norm.weight": "feed_forward.layer_norm.weight",
        "g.net.norm.bias": "feed_forward.layer_norm.bias",
    },
    "scale": {
        "f.net.norm.g": "attention.layer_norm.weight",
        "g.net.norm.g": "feed_forward.layer_norm.weight",
    },
    "none": {},
}
# ReZero multiplies the results of both functions of a layer by these factors.
_REZERO: Final = {"f.net.g": "attention.output.dense", "g.net.g": "feed_forward.output.dense"}

_MEMORY: Final = "f.net.fn.mem_kv"


def first_name(arguments: LayerArguments) -> str:
    """The package's name of a tensor that every model has."""
    return _prefixes(0, arguments)[0] + next(iter(_LAYER))


def duplicates(arguments: LayerArguments) -> str:
    """The beginning of the package's second names: it has every layer twice in its state dict."""
    return f"{arguments.prefix}layers.irrev_blocks."


def names(arguments: LayerArguments) -> Iterator[tuple[str, str]]:
    """The package's name and ours of the tensors that our model has, too."""
    for layer in range(arguments.depth):
        prefix, our_prefix = _prefixes(layer, arguments)
        for theirs, ours in {**_LAYER, **_NORMS[arguments.sublayer_norm]}.items():
            yield prefix + theirs, our_prefix + ours


def other_names(arguments: LayerArguments) -> Iterator[str]:
    """The package's names of tensors that our model has in another form."""
    others = (*_REZERO,) if arguments.use_rezero else ()
    if arguments.num_mem_kv:
        others += (_MEMORY,)
    for layer in range(arguments.depth):
        for name in others:
            yield _prefixes(layer, arguments)[0] + name


def _prefixes(layer: int, arguments: LayerArguments) -> tuple[str, str]:
    """Before the names of the tensors of a layer: the package's prefix and ours."""
    return f"{arguments.prefix}layers.blocks.{layer}.", f"reformer.encoder.layers.{layer}."


def finish(state: Tensors, tensors: Tensors, arguments: LayerArguments) -> None:
    """Change the weights in `state` where our layers compute otherwise.

    Raises:
        CheckpointError: The weights do not fit the arguments.
    """
    for layer in range(arguments.depth):
        _finish_layer(state, tensors, layer, arguments)


def _finish_layer(state: Tensors, tensors: Tensors, layer: int, arguments: LayerArguments) -> None:
    """Change the weights of a layer in `state` where our model computes otherwise."""
    theirs, ours = _prefixes(layer, arguments)
    query_key = f"{ours}attention.self_attention.query_key.weight"
    value = f"{ours}attention.self_attention.value.weight"
    # Scores of the package have one factor more. A scaled query has the same buckets.
    state[query_key] = state[query_key] * arguments.head_size**-0.5
    if arguments.one_value_head:
        state[value] = state[value].repeat(arguments.heads, 1)
    if arguments.num_mem_kv:
        _project_memory(state, tensors[f"{theirs}{_MEMORY}"].float(), ours, arguments)
    if arguments.use_rezero:
        for factor, output in _REZERO.items():
            for name in (f"{ours}{output}.weight", f"{ours}{output}.bias"):
                state[name] = state[name] * tensors[theirs + factor].float()


def _project_memory(
    state: Tensors, memory: torch.Tensor, ours: str, arguments: LayerArguments
) -> None:
    """Add what the projections make of the memory, `[1, num_mem_kv, dim]`: our model has that."""
    attention = f"{ours}attention.self_attention"
    width = arguments.heads * arguments.head_size
    for name in ("query_key", "value"):
        projected = memory[0] @ state[f"{attention}.{name}.weight"].T
        if projected.shape[1] != width:
            raise CheckpointError(
                f"{attention}.{name} gives {projected.shape[1]} numbers, but {CONFIG_FILE} asks "
                f"for heads * dim_head = {width}: the file and the weights do not match"
            )
        heads = projected.unflatten(-1, (arguments.heads, arguments.head_size))
        # Local heads do not see it.
        state[f"{attention}.memory.{name}"] = heads[:, arguments.n_local_attn_heads :]
