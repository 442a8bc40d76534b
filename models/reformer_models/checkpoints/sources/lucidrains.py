"""Checkpoints of `ReformerLM` from lucidrains' package reformer-pytorch.

The package saves only weights, so the user writes the constructor's arguments beside them, in
reformer_pytorch.json: `{"class": "ReformerLM", "num_tokens": 256, ...}`; docs/sources.md shows how.
The names and defaults here are those of release 1.4.4.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reformer_models.checkpoints.sources.arguments import (
    read_arguments,
    unused,
    without_effect,
)
from reformer_models.checkpoints.sources.base import Described, Source, Tensors
from reformer_models.checkpoints.sources.state import check_tensors, without_prefix
from reformer_models.config import ReformerConfig
from reformer_models.config.fields import (
    check_fields,
    flag,
    integer,
    one_of,
    optional,
    refuse,
    sequence,
    setting,
)
from reformer_models.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_CLASS: Final = "ReformerLM"

# Names of classes in torch.nn; the package takes the class itself.
_ACTIVATIONS: Final = {"GELU": "gelu", "ReLU": "relu", "SiLU": "silu", "Tanh": "tanh"}

# What the package computes with torch.nn.LayerNorm's default.
_LAYER_NORM_EPS: Final = 1e-5


@dataclass(frozen=True)
class Arguments:
    """The arguments of `ReformerLM`, with its defaults; the first four have none.

    Raises:
        ConfigError: A value is invalid, or our model can't express what it asks for.
    """

    num_tokens: int = setting(0, integer(1))
    dim: int = setting(0, integer(1))
    depth: int = setting(0, integer(1))
    max_seq_len: int = setting(0, integer(1))
    heads: int = setting(8, integer(1))
    dim_head: int = setting(64, integer(1))
    bucket_size: int = setting(64, integer(1))
    n_hashes: int = setting(4, integer(1))
    ff_chunks: object = setting(100, without_effect)
    attn_chunks: object = setting(1, without_effect)
    causal: bool = setting(False, flag)
    weight_tie: bool = setting(False, flag)
    lsh_dropout: object = setting(0.0, without_effect)
    ff_dropout: object = setting(0.0, without_effect)
    ff_mult: int = setting(4, integer(1))
    ff_activation: str | None = setting(
        None, optional(one_of(frozenset(_ACTIVATIONS), kind="a class of torch.nn"))
    )
    ff_glu: bool = setting(False, flag)
    post_attn_dropout: object = setting(0.0, without_effect)
    layer_dropout: object = setting(0.0, without_effect)
    random_rotations_per_head: object = setting(False, without_effect)
    use_scale_norm: bool = setting(False, flag)
    use_rezero: bool = setting(False, flag)
    use_full_attn: bool = setting(False, flag)
    full_attn_thres: int = setting(0, integer(0))
    reverse_thres: object = setting(0, without_effect)
    num_mem_kv: int = setting(0, integer(0))
    one_value_head: bool = setting(False, flag)
    emb_dim: int | None = setting(None, optional(integer(1)))
    return_embeddings: bool = setting(False, flag)
    weight_tie_embedding: bool = setting(False, flag)
    fixed_position_emb: bool = setting(False, flag)
    absolute_position_emb: bool = setting(False, flag)
    axial_position_emb: bool = setting(False, flag)
    axial_position_shape: tuple[int, ...] | None = setting(
        None, optional(sequence(integer(1), at_least=1))
    )
    n_local_attn_heads: int = setting(0, integer(0))
    pkm_layers: object = setting((), unused("no product-key memory"))
    pkm_num_keys: object = setting(128, without_effect)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rotary and self.dim_head % 2:
            refuse("dim_head", "even with rotary positions", self.dim_head)
        if self.n_local_attn_heads >= self.heads:
            refuse("n_local_attn_heads", f"below heads = {self.heads}", self.n_local_attn_heads)
        if self.full and self.n_local_attn_heads:
            refuse("n_local_attn_heads", "0 with full attention", self.n_local_attn_heads)
        if not self.full:
            self._check_hashing()

    def _check_hashing(self) -> None:
        if self.max_seq_len < 2 * self.bucket_size:
            least = f"at least 2 * bucket_size = {2 * self.bucket_size}"
            refuse("max_seq_len", least, self.max_seq_len)
        if self.num_mem_kv % self.bucket_size:
            whole = f"a multiple of bucket_size = {self.bucket_size}"
            refuse("num_mem_kv", whole, self.num_mem_kv)
        # Between both lengths the package would compute full attention and our model hashes.
        if self.full_attn_thres > self.bucket_size:
            allowed = (
                f"at most bucket_size = {self.bucket_size}, or at least max_seq_len + num_mem_kv"
            )
            refuse("full_attn_thres", allowed, self.full_attn_thres)
        if self.rotary and self.full_attn_thres:
            # The package's full attention leaves out the positions.
            refuse("full_attn_thres", "0 with rotary positions", self.full_attn_thres)

    @property
    def full(self) -> bool:
        """True if the attention is full at every length."""
        return self.use_full_attn or self.full_attn_thres >= self.max_seq_len + self.num_mem_kv

    @property
    def embedding_size(self) -> int:
        """The size of the embeddings. If it is not `dim`, linear layers translate between both."""
        return self.emb_dim or self.dim

    @property
    def rotary(self) -> bool:
        """True if the model has rotary positions: no other kind is asked for."""
        return not (
            self.axial_position_emb or self.absolute_position_emb or self.fixed_position_emb
        )

    @property
    def sublayer_norm(self) -> str:
        """The norm of our model; ReZero takes the place of the norm."""
        if self.use_rezero:
            return "none"
        return "scale" if self.use_scale_norm else "layer"

    @property
    def axial_shape(self) -> tuple[int, ...]:
        """The grid of axial positions."""
        rows = math.ceil(self.max_seq_len / self.bucket_size)
        return self.axial_position_shape or (rows, self.bucket_size)

    @property
    def positions(self) -> int:
        """The number of positions."""
        if self.axial_position_emb:
            return min(self.max_seq_len, math.prod(self.axial_shape))
        return self.max_seq_len

    @property
    def num_buckets(self) -> int:
        """The number of buckets that the package uses for the longest sequence that it takes."""
        return 2 * ((self.positions + self.num_mem_kv) // (2 * self.bucket_size))


def _describe(raw: Mapping[str, object], ignore_keys: Collection[str]) -> Described:
    arguments = _arguments(raw, ignore_keys)
    config = ReformerConfig(
        attention_head_size=arguments.dim_head,
        attention_output_bias=True,
        attn_layers=("full" if arguments.full else "lsh",) * arguments.depth,
        axial_pos_embds=False,
        feed_forward_gated=arguments.ff_glu,
        feed_forward_size=arguments.ff_mult * arguments.dim,
        hidden_act=_ACTIVATIONS[arguments.ff_activation or "GELU"],
        hidden_dropout_prob=0.0,
        hidden_size=arguments.dim,
        is_decoder=arguments.causal,
        layer_norm_eps=_LAYER_NORM_EPS,
        lsh_attn_chunk_length=arguments.bucket_size,
        lsh_local_heads=arguments.n_local_attn_heads,
        max_position_embeddings=arguments.positions,
        num_attention_heads=arguments.heads,
        num_buckets=None if arguments.full else (arguments.num_buckets,),
        num_hashes=arguments.n_hashes,
        num_memory_vectors=arguments.num_mem_kv,
        rotary_positions=arguments.rotary and not arguments.full,
        stream_merge="mean",
        sublayer_norm=arguments.sublayer_norm,
        vocab_size=arguments.num_tokens,
    )
    if arguments.return_embeddings:
        architecture = "ReformerModel"
    else:
        architecture = "ReformerModelWithLMHead" if arguments.causal else "ReformerForMaskedLM"
    return Described(
        config,
        architecture,
        translated=lambda tensors: _translated(tensors, arguments),
        notes=(
            f"{_CONFIG_FILE} was found: the checkpoint is read as a {_CLASS} of reformer-pytorch.",
            *_hashing_notes(arguments),
        ),
    )


def _hashing_notes(arguments: Arguments) -> Iterator[str]:
    if not arguments.full:
        buckets = arguments.num_buckets
        length = buckets * arguments.bucket_size - arguments.num_mem_kv
        yield (
            f"num_buckets is {buckets}, which reformer-pytorch uses for sequences of {length} "
            "tokens; it uses length / bucket_size buckets, and an export has one number for all "
            "lengths."
        )
    elif arguments.rotary:
        yield "The model has no positions: full attention of reformer-pytorch leaves them out."


def _arguments(raw: Mapping[str, object], ignore_keys: Collection[str]) -> Arguments:
    if raw.get("class") != _CLASS:
        only = f"{_CLASS!r} (no other class of reformer-pytorch takes tokens and is one model)"
        refuse("class", only, raw.get("class"))
    arguments = {name: value for name, value in raw.items() if name != "class"}
    return read_arguments(
        Arguments,
        arguments,
        ignore_keys,
        required=("num_tokens", "dim", "depth", "max_seq_len"),
        owner=f"{_CLASS} in reformer-pytorch 1.4.4",
    )


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

# ReZero multiplies the results of both functions of a layer by these factors.
_REZERO: Final = {"f.net.g": "attention.output.dense", "g.net.g": "feed_forward.output.dense"}

_MEMORY: Final = "f.net.fn.mem_kv"

# The package has every layer twice in its state dict, and a tied head's weight too.
_DUPLICATES: Final = ("reformer.layers.irrev_blocks.", "out.1.tensor")


def _translated(tensors: Tensors, arguments: Arguments) -> Tensors:
    tensors = without_prefix(tensors, _WORDS)
    names = dict(_names(arguments))
    positions = _position_names(arguments)
    expected = {*names, *positions, *_other_names(arguments)}
    check_tensors(
        tensors,
        expected,
        unread=_DUPLICATES,
        model=f"a {_CLASS} with the arguments in {_CONFIG_FILE}",
    )
    # In fp32, because some are multiplied or added.
    state = {ours: tensors[theirs].float() for theirs, ours in names.items()}
    for layer in range(arguments.depth):
        _finish_layer(state, tensors, layer, arguments)
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


def _finish_layer(state: Tensors, tensors: Tensors, layer: int, arguments: Arguments) -> None:
    """Change the weights of a layer in `state` where our model computes otherwise."""
    theirs, ours = _prefixes(layer)
    query_key = f"{ours}attention.self_attention.query_key.weight"
    value = f"{ours}attention.self_attention.value.weight"
    # Scores of the package have one factor more. A scaled query has the same buckets.
    state[query_key] = state[query_key] * arguments.dim_head**-0.5
    if arguments.one_value_head:
        state[value] = state[value].repeat(arguments.heads, 1)
    if arguments.num_mem_kv:
        _project_memory(state, tensors[f"{theirs}{_MEMORY}"].float(), ours, arguments)
    if arguments.use_rezero:
        for factor, output in _REZERO.items():
            for name in (f"{ours}{output}.weight", f"{ours}{output}.bias"):
                state[name] = state[name] * tensors[theirs + factor].float()


def _merge_embedding_size(state: Tensors, tensors: Tensors, arguments: Arguments) -> None:
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


def _project_memory(state: Tensors, memory: torch.Tensor, ours: str, arguments: Arguments) -> None:
    """Add what the projections make of the memory, `[1, num_mem_kv, dim]`: our model has that."""
    attention = f"{ours}attention.self_attention"
    width = arguments.heads * arguments.dim_head
    for name in ("query_key", "value"):
        projected = memory[0] @ state[f"{attention}.{name}.weight"].T
        if projected.shape[1] != width:
            raise CheckpointError(
                f"{attention}.{name} gives {projected.shape[1]} numbers, but {_CONFIG_FILE} asks "
                f"for heads * dim_head = {width}: the file and the weights do not match"
            )
        heads = projected.unflatten(-1, (arguments.heads, arguments.dim_head))
        # Local heads do not see it.
        state[f"{attention}.memory.{name}"] = heads[:, arguments.n_local_attn_heads :]


def _names(arguments: Arguments) -> Iterator[tuple[str, str]]:
    """The package's name and ours of all tensors that our model has, too."""
    yield from _OUTSIDE_LAYERS.items()
    for layer in range(arguments.depth):
        prefix, our_prefix = _prefixes(layer)
        for theirs, ours in {**_LAYER, **_NORMS[arguments.sublayer_norm]}.items():
            yield prefix + theirs, our_prefix + ours
    if not (arguments.return_embeddings or arguments.weight_tie_embedding):
        yield from _HEAD.items()


def _other_names(arguments: Arguments) -> Iterator[str]:
    """The package's names of tensors that our model has in another form, without positions."""
    if arguments.embedding_size != arguments.dim:
        yield from _TO_DIM if arguments.return_embeddings else (*_TO_DIM, *_FROM_DIM)
    names = (*_REZERO,) if arguments.use_rezero else ()
    if arguments.num_mem_kv:
        names += (_MEMORY,)
    for layer in range(arguments.depth):
        for name in names:
            yield _prefixes(layer)[0] + name


def _prefixes(layer: int) -> tuple[str, str]:
    """Before the names of the tensors of a layer: the package's prefix and ours."""
    return f"reformer.layers.blocks.{layer}.", f"reformer.encoder.layers.{layer}."


def _position_names(arguments: Arguments) -> list[str]:
    # The package looks at its options in this order.
    if arguments.axial_position_emb:
        return [f"pos_emb.weights.{axis}" for axis, _ in enumerate(arguments.axial_shape)]
    if arguments.rotary:
        return ["layer_pos_emb.inv_freq"]
    return ["pos_emb.emb.weight" if arguments.absolute_position_emb else "pos_emb.inv_freq"]


def _check_frequencies(found: torch.Tensor, arguments: Arguments) -> None:
    """CheckpointError if rotary positions have frequencies that the package never writes."""
    import torch

    places = torch.arange(0, arguments.dim_head, 2) / arguments.dim_head
    expected = 10000.0**-places
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0.01):
        raise CheckpointError(
            f"layer_pos_emb.inv_freq is not what the package computes for dim_head = "
            f"{arguments.dim_head}: the file and the weights do not belong together"
        )


def _position_table(weights: list[torch.Tensor], arguments: Arguments) -> torch.Tensor:
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
                    f"pos_emb.weights.{axis} is {list(weight.shape)}, but {_CONFIG_FILE} asks for "
                    f"{expected}: the file and the weights do not match"
                )
        table = sum(weight[0].expand(grid) for weight in weights)
        return torch.as_tensor(table).reshape(-1, size)[:count]
    if arguments.absolute_position_emb:
        return weights[0]
    angles = torch.arange(count)[:, None] * weights[0]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


_CONFIG_FILE: Final = "reformer_pytorch.json"
LUCIDRAINS: Final = Source("lucidrains", _CONFIG_FILE, _describe)
