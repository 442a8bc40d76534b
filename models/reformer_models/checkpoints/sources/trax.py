"""Checkpoints of `ReformerLM` from Google's trax.

trax saves the weights as a list of arrays without names and keeps the arguments of the model in a
gin file. The user writes these arguments beside the weights, in trax_reformer.json:
`{"class": "ReformerLM", "vocab_size": 258, ...}`; docs/sources.md shows how. The names and defaults
here are those of release 1.4.1.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from reformer_models.checkpoints.arrays import ARRAY_FILES
from reformer_models.checkpoints.sources.arguments import (
    read_arguments,
    unused,
    without_effect,
)
from reformer_models.checkpoints.sources.base import Described, Source, Tensors
from reformer_models.config import ReformerConfig
from reformer_models.config.fields import (
    bucket_factors,
    check_fields,
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
_RELEASE: Final = "trax 1.4.1"
_LOCAL, _LSH = "SelfAttention", "LSHSelfAttention"

# The default of trax's LayerNorm.
_LAYER_NORM_EPS: Final = 1e-6

_ACTIVATIONS: Final = {"FastGelu": "gelu_fast", "Gelu": "gelu", "Relu": "relu"}
_POSITIONS: Final = frozenset({"axial", "fixed-base", "no", "sin-cos"})

# FixedBasePositionalEncoding writes a position with 8 digits in each of these bases.
_BASES: Final = (11, 13, 14, 15)
_DIGITS: Final = 8

_no_bias = unused("no biases of queries, keys and values")
_no_later = unused("no later chunks in a causal model")


@dataclass(frozen=True)
class LocalArguments:
    """The arguments of `SelfAttention` that `ReformerLM` does not give, with its defaults."""

    share_qk: object = setting(False, unused("own keys in a local layer"))
    chunk_len: int | None = setting(None, optional(integer(1)))
    n_chunks_before: int = setting(0, integer(0))
    n_chunks_after: object = setting(0, _no_later)
    bias: object = setting(False, _no_bias)
    mode: object = setting("train", without_effect)
    predict_mem_len: object = setting(None, without_effect)
    predict_drop_len: object = setting(None, without_effect)
    attention_dropout: object = setting(0.0, without_effect)
    output_dropout: object = setting(0.0, without_effect)
    n_parallel_heads: object = setting(None, without_effect)
    use_python_loop: object = setting(False, without_effect)
    use_reference_code: object = setting(False, without_effect)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.chunk_len is None and self.n_chunks_before:
            refuse("n_chunks_before", "0 without a chunk_len", self.n_chunks_before)


@dataclass(frozen=True)
class LSHArguments:
    """The arguments of `LSHSelfAttention` that `ReformerLM` does not give, with its defaults."""

    share_qk: object = setting("unused", without_effect)
    chunk_len: int = setting(128, integer(1))
    n_chunks_before: int = setting(1, integer(0))
    n_chunks_after: object = setting(0, _no_later)
    n_hashes: int = setting(1, integer(1))
    n_buckets: tuple[int, ...] | None = setting(None, optional(bucket_factors))
    mode: object = setting("train", without_effect)
    predict_mem_len: object = setting(2048, without_effect)
    predict_drop_len: object = setting(256, without_effect)
    attention_dropout: object = setting(0.0, without_effect)
    output_dropout: object = setting(0.0, without_effect)
    max_length_for_buckets: object = setting(None, without_effect)
    bias: object = setting(False, _no_bias)
    n_parallel_heads: object = setting(1, without_effect)
    use_python_loop: object = setting(False, without_effect)
    use_reference_code: object = setting(False, without_effect)

    def __post_init__(self) -> None:
        check_fields(self)

    def buckets_for(self, length: int) -> tuple[int, ...]:
        """The factors of the number of buckets that trax uses for a sequence of this length."""
        if self.n_buckets is not None:
            return self.n_buckets
        buckets = 2 * max(1, length // self.chunk_len)
        if buckets <= 128:
            return (buckets,)
        first: int = 2 ** math.ceil(math.log2(math.sqrt(buckets)))
        return (first, 2 * (buckets // (2 * first)))


def _attention_types(name: str, value: object) -> object:
    """The class of attention of all layers, or of each layer in a pattern that repeats."""
    given = [value] if isinstance(value, str) else value
    kind = one_of(frozenset({_LOCAL, _LSH}), kind="a class of attention")
    return sequence(kind, at_least=1)(name, given)


@dataclass(frozen=True)
class Arguments:
    """The arguments of `ReformerLM`, with its defaults; `vocab_size` has none.

    Raises:
        ConfigError: A value is invalid, or our model can't express what it asks for.
    """

    vocab_size: int = setting(0, integer(1))
    d_model: int = setting(512, integer(1))
    d_ff: int = setting(2048, integer(1))
    d_attention_key: int = setting(64, integer(1))
    d_attention_value: int = setting(64, integer(1))
    n_layers: int = setting(6, integer(1))
    n_heads: int = setting(8, integer(1))
    dropout: object = setting(0.1, without_effect)
    max_len: int = setting(2048, integer(1))
    attention_type: tuple[str, ...] = setting((_LOCAL,), _attention_types)
    pos_type: str | None = setting(None, optional(one_of(_POSITIONS, kind="a kind of positions")))
    pos_axial_shape: tuple[int, ...] = setting((), optional(sequence(integer(1)), none=()))
    pos_d_axial_embs: tuple[int, ...] = setting((), optional(sequence(integer(1)), none=()))
    pos_start_from_zero_prob: object = setting(1.0, without_effect)
    pos_max_offset_to_add: object = setting(0, without_effect)
    ff_activation: str = setting(
        "FastGelu", one_of(frozenset(_ACTIVATIONS), kind="an activation function")
    )
    ff_use_sru: object = setting(0, unused("no SRU in a feed-forward layer"))
    ff_chunk_size: object = setting(0, without_effect)
    ff_sparsity: object = setting(0, unused("no sparse feed-forward layers"))
    loss_sparsity_type: object = setting("mult", without_effect)
    loss_sparsity: object = setting(0, unused("no sparse head"))
    loss_d_lowrank: object = setting(0, without_effect)
    loss_sparsity_prob: object = setting(None, unused("no sparse head"))
    attention_chunk_size: object = setting(0, without_effect)
    mode: object = setting("train", without_effect)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.d_attention_value != self.d_attention_key:
            same = f"d_attention_key = {self.d_attention_key}: heads have one size here"
            refuse("d_attention_value", same, self.d_attention_value)
        if self.n_layers % len(self.attention_type):
            times = f"a list whose length divides n_layers = {self.n_layers}"
            refuse("attention_type", times, list(self.attention_type))
        if self.positions_kind == "axial":
            self._check_axial()
        elif self.pos_axial_shape:
            refuse("pos_axial_shape", f"left out with pos_type {self.pos_type}", self.axial_shape)
        if self.pos_type == "fixed-base" and self.d_model % _DIGITS:
            refuse("d_model", f"a multiple of {_DIGITS} with pos_type fixed-base", self.d_model)

    def _check_axial(self) -> None:
        axes = len(self.pos_axial_shape)
        if not axes:
            refuse("pos_axial_shape", "given with pos_type axial", self.axial_shape)
        if len(self.pos_d_axial_embs) != axes or sum(self.pos_d_axial_embs) != self.d_model:
            parts = f"{axes} numbers that add up to d_model = {self.d_model}"
            refuse("pos_d_axial_embs", parts, list(self.pos_d_axial_embs))

    @property
    def axial_shape(self) -> list[int]:
        """The grid of axial positions."""
        return list(self.pos_axial_shape)

    @property
    def positions_kind(self) -> str:
        """One of `_POSITIONS`, or "table". Early releases had axial positions without pos_type."""
        return self.pos_type or ("axial" if self.pos_axial_shape else "table")

    @property
    def positions(self) -> int:
        """The number of positions."""
        return math.prod(self.pos_axial_shape) if self.positions_kind == "axial" else self.max_len

    @property
    def axial_in_transformers(self) -> bool:
        """True if Transformers has these positions as they are: axial ones in two directions."""
        return self.positions_kind == "axial" and len(self.pos_axial_shape) == 2

    @property
    def layers(self) -> tuple[str, ...]:
        """The class of attention of each layer."""
        return self.attention_type * (self.n_layers // len(self.attention_type))


def _describe(raw: Mapping[str, object], ignore_keys: Collection[str]) -> Described:
    arguments, local, lsh = _arguments(raw, ignore_keys)
    positions = arguments.positions
    notes = [f"{_CONFIG_FILE} was found: the checkpoint is read as a {_CLASS} of trax."]
    buckets = None
    if _LSH in arguments.layers:
        buckets = lsh.buckets_for(positions)
        if lsh.n_buckets is None:
            notes.append(
                f"num_buckets is {'×'.join(map(str, buckets))}, which trax uses for sequences of "
                f"{positions} tokens; it uses length / chunk_len * 2 buckets, and an export has "
                "one number for all lengths."
            )
    notes.append(
        "trax puts a token 0 before every sequence and leaves out the last token. An export takes "
        "the tokens as they are: begin a sequence with 0 to get trax's logits."
    )
    config = ReformerConfig(
        attention_head_size=arguments.d_attention_key,
        attn_layers=tuple("lsh" if kind == _LSH else "local" for kind in arguments.layers),
        axial_pos_embds=False,
        feed_forward_size=arguments.d_ff,
        hidden_act=_ACTIVATIONS[arguments.ff_activation],
        hidden_dropout_prob=0.0,
        hidden_size=arguments.d_model,
        is_decoder=True,
        layer_norm_eps=_LAYER_NORM_EPS,
        # Without chunks, every token sees all tokens before it.
        local_attn_chunk_length=local.chunk_len or positions,
        local_num_chunks_before=local.n_chunks_before,
        lsh_attn_chunk_length=lsh.chunk_len,
        lsh_num_chunks_before=lsh.n_chunks_before,
        max_position_embeddings=positions,
        num_attention_heads=arguments.n_heads,
        num_buckets=buckets,
        num_hashes=lsh.n_hashes,
        vocab_size=arguments.vocab_size,
    )
    if arguments.axial_in_transformers:
        config = replace(
            config,
            axial_pos_embds=True,
            axial_pos_shape=arguments.pos_axial_shape,
            axial_pos_embds_dim=arguments.pos_d_axial_embs,
        )
    return Described(
        config,
        "ReformerModelWithLMHead",
        translated=lambda tensors: _translated(tensors, arguments),
        notes=tuple(notes),
    )


def _arguments(
    raw: Mapping[str, object], ignore_keys: Collection[str]
) -> tuple[Arguments, LocalArguments, LSHArguments]:
    if raw.get("class") != _CLASS:
        only = f"{_CLASS!r} (encoder-decoder models and trax's other models are not read)"
        refuse("class", only, raw.get("class"))
    sections: dict[str, Mapping[str, object]] = {}
    for name in (_LOCAL, _LSH):
        section = raw.get(name, {})
        if not isinstance(section, dict):
            refuse(name, "an object with the arguments of this class", section)
        sections[name] = section
    model = {name: value for name, value in raw.items() if name not in ("class", *sections)}
    return (
        read_arguments(
            Arguments, model, ignore_keys, required=["vocab_size"], owner=f"{_CLASS} in {_RELEASE}"
        ),
        read_arguments(
            LocalArguments, sections[_LOCAL], ignore_keys, owner=f"{_LOCAL} in {_RELEASE}"
        ),
        read_arguments(LSHArguments, sections[_LSH], ignore_keys, owner=f"{_LSH} in {_RELEASE}"),
    )


def _shapes(arguments: Arguments) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A name and the shape of every array, in trax's order."""
    model, hidden = arguments.d_model, arguments.d_ff
    heads, size = arguments.n_heads, arguments.d_attention_key
    yield "embedding", (arguments.vocab_size, model)
    yield from _position_shapes(arguments)
    for layer, kind in enumerate(arguments.layers):
        yield f"{layer} attention_norm.scale", (model,)
        yield f"{layer} attention_norm.bias", (model,)
        for weight in ("w_q", "w_v") if kind == _LSH else ("w_q", "w_k", "w_v"):
            yield f"{layer} {weight}", (heads, model, size)
        yield f"{layer} w_o", (heads, size, model)
        yield f"{layer} feed_forward_norm.scale", (model,)
        yield f"{layer} feed_forward_norm.bias", (model,)
        yield f"{layer} dense_in.weight", (model, hidden)
        yield f"{layer} dense_in.bias", (hidden,)
        yield f"{layer} dense_out.weight", (hidden, model)
        yield f"{layer} dense_out.bias", (model,)
    yield "norm.scale", (2 * model,)
    yield "norm.bias", (2 * model,)
    yield "head.weight", (2 * model, arguments.vocab_size)
    yield "head.bias", (arguments.vocab_size,)


def _position_shapes(arguments: Arguments) -> Iterator[tuple[str, tuple[int, ...]]]:
    if arguments.positions_kind == "axial":
        for axis, size in enumerate(arguments.pos_d_axial_embs):
            grid = [1] * len(arguments.pos_axial_shape)
            grid[axis] = arguments.pos_axial_shape[axis]
            yield f"positions.{axis}", (1, *grid, size)
    elif arguments.positions_kind == "table":
        yield "positions.0", (arguments.max_len, arguments.d_model)
    elif arguments.positions_kind == "fixed-base":
        for place in range(len(_BASES) * _DIGITS):
            yield f"positions.{place}", (1, arguments.d_model // _DIGITS)
        yield "positions.start", (1, 1, arguments.d_model)


def _named(tensors: Tensors, arguments: Arguments) -> Tensors:
    """The arrays by name, in fp32; CheckpointError if they do not fit the arguments."""
    shapes = dict(_shapes(arguments))
    if len(tensors) != len(shapes):
        raise CheckpointError(
            f"the weights are {len(tensors)} arrays, but a {_CLASS} with the arguments in "
            f"{_CONFIG_FILE} has {len(shapes)}: check n_layers, attention_type and the positions"
        )
    named = {}
    for place, (name, expected) in enumerate(shapes.items()):
        tensor = tensors[str(place)]
        if name == "positions.0" and arguments.positions_kind == "table" and tensor.ndim == 3:
            tensor = tensor[0]  # early releases have a first axis of one
        if tuple(tensor.shape) != expected:
            label = f"layer {name}" if name[0].isdigit() else name
            raise CheckpointError(
                f"array {place} of the weights is {list(tensor.shape)}, but {_CONFIG_FILE} asks "
                f"for {list(expected)} there ({label}): the file and the weights do not belong "
                "together"
            )
        if not tensor.is_floating_point():
            raise CheckpointError(f"array {place} of the weights is {tensor.dtype}, not floats")
        named[name] = tensor.float()
    return named


def _translated(tensors: Tensors, arguments: Arguments) -> Tensors:
    named = _named(tensors, arguments)
    state = {
        "reformer.embeddings.word_embeddings.weight": named["embedding"],
        "reformer.encoder.layer_norm.weight": named["norm.scale"],
        "reformer.encoder.layer_norm.bias": named["norm.bias"],
        "lm_head.decoder.weight": named["head.weight"].T,
        "lm_head.bias": named["head.bias"],
    }
    positions = "reformer.embeddings.position_embeddings."
    if arguments.axial_in_transformers:
        for axis in range(2):
            state[f"{positions}weights.{axis}"] = named[f"positions.{axis}"][0]
    else:
        state[f"{positions}embedding.weight"] = _position_table(named, arguments)
    for layer, kind in enumerate(arguments.layers):
        ours = f"reformer.encoder.layers.{layer}."
        projections = {"w_q": "query", "w_k": "key", "w_v": "value"}
        if kind == _LSH:
            projections = {"w_q": "query_key", "w_v": "value"}
        for theirs, name in projections.items():
            weight = named[f"{layer} {theirs}"].transpose(1, 2).flatten(0, 1)
            state[f"{ours}attention.self_attention.{name}.weight"] = weight
        state[f"{ours}attention.output.dense.weight"] = named[f"{layer} w_o"].flatten(0, 1).T
        for theirs, name in (
            ("attention_norm", "attention.layer_norm"),
            ("feed_forward_norm", "feed_forward.layer_norm"),
        ):
            state[f"{ours}{name}.weight"] = named[f"{layer} {theirs}.scale"]
            state[f"{ours}{name}.bias"] = named[f"{layer} {theirs}.bias"]
        for theirs, name in (
            ("dense_in", "feed_forward.dense.dense"),
            ("dense_out", "feed_forward.output.dense"),
        ):
            state[f"{ours}{name}.weight"] = named[f"{layer} {theirs}.weight"].T
            state[f"{ours}{name}.bias"] = named[f"{layer} {theirs}.bias"]
    return state


def _position_table(named: Tensors, arguments: Arguments) -> torch.Tensor:
    """One embedding for each position, `[positions, d_model]`, of any kind of positions."""
    import torch

    count, size, kind = arguments.positions, arguments.d_model, arguments.positions_kind
    if kind == "table":
        return named["positions.0"]
    if kind == "axial":
        axes = range(len(arguments.pos_axial_shape))
        parts = [named[f"positions.{axis}"][0] for axis in axes]
        grids = [part.expand(*arguments.pos_axial_shape, part.shape[-1]) for part in parts]
        return torch.cat(grids, dim=-1).reshape(count, size)
    if kind == "no":
        return torch.zeros(count, size)
    places = torch.arange(count)
    if kind == "sin-cos":
        frequencies = torch.exp(torch.arange(0, size, 2) * -(math.log(10000.0) / size))
        angles = places[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)
    table = torch.zeros(count, size)
    for row, base in enumerate(_BASES):
        digits = [places // base**digit % base for digit in range(_DIGITS)]
        weights = [named[f"positions.{row * _DIGITS + digit}"] for digit in range(_DIGITS)]
        table += torch.cat([d[:, None] * w for d, w in zip(digits, weights, strict=True)], dim=1)
    table[0] += named["positions.start"][0, 0]
    return table


_CONFIG_FILE: Final = "trax_reformer.json"
TRAX: Final = Source("trax", _CONFIG_FILE, _describe, ARRAY_FILES)
