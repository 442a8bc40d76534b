"""The configuration of a Reformer: Hugging Face's fields, checked, and values derived from them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from reformer_models.config.activation_names import ACTIVATION_NAMES
from reformer_models.config.config_json import MODEL_TYPE, built_layers, label_count, refuse_foreign
from reformer_models.config.fields import (
    bucket_factors,
    check_fields,
    flag,
    integer,
    number,
    one_of,
    optional,
    refuse,
    sequence,
    setting,
    text,
    version,
)
from reformer_models.config.model_config import Pinned
from reformer_models.errors import ConfigError

LAYER_KINDS: Final = frozenset({"full", "local", "lsh"})
STREAM_MERGES: Final = frozenset({"concatenate", "mean"})
SUBLAYER_NORMS: Final = frozenset({"layer", "none", "scale"})

# The range that torch.manual_seed accepts.
_SEED = integer(-(2**63), 2**64 - 1)

_LENGTH_WITHOUT_CHUNKS: Final = 64

_OWN_FIELDS: Final = (
    "attention_output_bias",
    "feed_forward_gated",
    "lsh_local_heads",
    "num_memory_vectors",
    "rotary_positions",
    "stream_merge",
    "sublayer_norm",
)

# Transformers lets these be null, which works as long as no layer reads them.
_LSH_KEYS_THAT_MAY_BE_NULL: Final = frozenset(
    {
        "lsh_attention_probs_dropout_prob",
        "lsh_attn_chunk_length",
        "lsh_num_chunks_after",
        "lsh_num_chunks_before",
    }
)


@dataclass(frozen=True)
class ReformerConfig:
    """The configuration of a Reformer, under Hugging Face's names and with its defaults.

    These are our own, because models of other libraries need them:

    - `attn_layers` may have "full": attention to the whole sequence, with shared queries and keys.
    - `attention_output_bias`: the output layer of an attention has a bias.
    - `feed_forward_gated`: the first layer of a feed-forward has twice the size; the activation of
      one half is multiplied by the other half (GLU, arXiv 2002.05202).
    - `lsh_local_heads`: so many heads of an LSH layer, the first ones, hash nothing: a token sees
      its own window of `2 * lsh_attn_chunk_length` tokens and the window before, and after it if
      the model is no decoder.
    - `num_memory_vectors`: so many learned vectors are keys and values for every token of an LSH or
      full layer, beside the sequence. In LSH layers they fill whole chunks.
    - `rotary_positions`: LSH layers turn the hashed vectors by their positions, instead of position
      embeddings.
    - `stream_merge`: how the last norm gets both streams as one.
    - `sublayer_norm`: the norm before an attention or a feed-forward: a layer norm, a vector of
      length one times one number (ScaleNorm), or none.

    Every field is checked, whatever its source. Lists are stored as tuples, a single number of
    buckets as a tuple of one element, and a `pad_token_id` of None as 0 (padded positions are
    masked, so any token works).

    Raises:
        ConfigError: A field has a value that no Reformer can have, or two fields contradict each
            other.
    """

    attention_head_size: int = setting(64, integer(1))
    attention_output_bias: bool = setting(False, flag)
    attn_layers: tuple[str, ...] = setting(
        ("local", "lsh") * 3,
        sequence(one_of(LAYER_KINDS, kind="a kind of attention"), at_least=1),
    )
    axial_norm_std: float = setting(1.0, number(0))
    axial_pos_embds: bool = setting(True, flag)
    axial_pos_shape: tuple[int, ...] = setting((64, 64), sequence(integer(1), exactly=2))
    axial_pos_embds_dim: tuple[int, ...] = setting((64, 192), sequence(integer(1), exactly=2))
    chunk_size_feed_forward: int = setting(0, integer(0))
    chunk_size_lm_head: int = setting(0, integer(0))
    classifier_dropout: float | None = setting(None, optional(number(0, 1)))
    feed_forward_gated: bool = setting(False, flag)
    feed_forward_size: int = setting(512, integer(1))
    hash_seed: int | None = setting(None, optional(_SEED))
    hidden_act: str = setting("relu", one_of(ACTIVATION_NAMES, kind="an activation function"))
    hidden_dropout_prob: float = setting(0.05, number(0, 1))
    hidden_size: int = setting(256, integer(1))
    initializer_range: float = setting(0.02, number(0))
    is_decoder: bool = setting(False, flag)
    layer_norm_eps: float = setting(1e-12, number(0))
    local_attention_probs_dropout_prob: float = setting(0.05, number(0, 1))
    local_attn_chunk_length: int = setting(64, integer(1))
    local_num_chunks_before: int = setting(1, integer(0))
    local_num_chunks_after: int = setting(0, integer(0))
    lsh_attention_probs_dropout_prob: float = setting(0.0, number(0, 1))
    lsh_attn_chunk_length: int = setting(64, integer(1))
    lsh_local_heads: int = setting(0, integer(0))
    lsh_num_chunks_before: int = setting(1, integer(0))
    lsh_num_chunks_after: int = setting(0, integer(0))
    max_position_embeddings: int = setting(4096, integer(1))
    num_attention_heads: int = setting(12, integer(1))
    num_buckets: tuple[int, ...] | None = setting(None, optional(bucket_factors))
    num_hashes: int = setting(1, integer(1))
    num_labels: int = setting(2, integer(1))
    num_memory_vectors: int = setting(0, integer(0))
    pad_token_id: int = setting(0, optional(integer(0), none=0))
    rotary_positions: bool = setting(False, flag)
    stream_merge: str = setting("concatenate", one_of(STREAM_MERGES, kind="a way to merge"))
    sublayer_norm: str = setting("layer", one_of(SUBLAYER_NORMS, kind="a kind of norm"))
    tie_word_embeddings: bool = setting(False, flag)
    vocab_size: int = setting(320, integer(1))
    architectures: tuple[str, ...] = setting((), optional(sequence(text), none=()))
    transformers_version: str | None = setting(None, optional(version))

    def __post_init__(self) -> None:
        check_fields(self)
        if self.pad_token_id >= self.vocab_size:
            vocabulary = f"a token below vocab_size = {self.vocab_size}"
            refuse("pad_token_id", vocabulary, self.pad_token_id)
        if self.axial_pos_embds and sum(self.axial_pos_embds_dim) != self.hidden_size:
            parts = f"numbers that add up to hidden_size = {self.hidden_size}"
            refuse("axial_pos_embds_dim", parts, list(self.axial_pos_embds_dim))
        if self.lsh_local_heads >= self.num_attention_heads:
            most = f"below num_attention_heads = {self.num_attention_heads}"
            refuse("lsh_local_heads", most, self.lsh_local_heads)
        if "lsh" in self.attn_layers and self.num_memory_vectors % self.lsh_attn_chunk_length:
            whole = f"a multiple of lsh_attn_chunk_length = {self.lsh_attn_chunk_length}"
            refuse("num_memory_vectors", whole, self.num_memory_vectors)
        if self.rotary_positions:
            self._check_rotary()

    def _check_rotary(self) -> None:
        if self.axial_pos_embds:
            refuse("axial_pos_embds", "false with rotary_positions", self.axial_pos_embds)
        if {"lsh"} != set(self.attn_layers):
            refuse("attn_layers", "lsh layers only with rotary_positions", list(self.attn_layers))
        if self.attention_head_size % 2:
            refuse("attention_head_size", "even with rotary_positions", self.attention_head_size)

    # Shape of the model

    @property
    def num_hidden_layers(self) -> int:
        """The number of layers: one for each entry of `attn_layers`."""
        return len(self.attn_layers)

    @property
    def hashing_heads(self) -> int:
        """The number of heads of an LSH layer that hash."""
        return self.num_attention_heads - self.lsh_local_heads

    @property
    def lsh_local_window(self) -> int:
        """The number of tokens in a window of the local heads of an LSH layer."""
        return 2 * self.lsh_attn_chunk_length

    @property
    def has_cache(self) -> bool:
        """True if a model can generate with a cache: memory vectors have no place in it."""
        return not self.num_memory_vectors

    @property
    def output_size(self) -> int:
        """The size of the hidden states that the encoder returns and the heads take."""
        return self.hidden_size if self.stream_merge == "mean" else 2 * self.hidden_size

    @property
    def beyond_transformers(self) -> tuple[str, ...]:
        """What Transformers does not have: fields whose values differ from what it does, and full
        layers."""
        own = (declared for declared in fields(self) if declared.name in _OWN_FIELDS)
        names = tuple(one.name for one in own if getattr(self, one.name) != one.default)
        return ("full layers", *names) if "full" in self.attn_layers else names

    @property
    def bucket_count(self) -> int:
        """The number of buckets of a hash: the product of the factors.

        Raises:
            ConfigError: `num_buckets` is not set; see `pinned`.
        """
        if self.num_buckets is None:
            raise ConfigError("num_buckets is not set; ReformerConfig.pinned() chooses it")
        return math.prod(self.num_buckets)

    # Lengths

    @property
    def chunk_lengths(self) -> list[int]:
        """The chunk length of each kind of layer that is present and has chunks."""
        lengths = {"local": self.local_attn_chunk_length, "lsh": self.lsh_attn_chunk_length}
        return [lengths[kind] for kind in sorted(lengths.keys() & set(self.attn_layers))]

    @property
    def changing_lengths(self) -> tuple[int, ...]:
        """Lengths at which the computation changes: the chunk length of each kind of layer.

        In a model of full layers there is no such length, and any length may be taken for it.
        """
        return tuple(self.chunk_lengths) or (_LENGTH_WITHOUT_CHUNKS,)

    @property
    def chunk_multiple(self) -> int:
        """Every padded length is a multiple of this number, unless the sequence is short."""
        return math.lcm(*self.chunk_lengths)

    @property
    def min_chunk_length(self) -> int:
        """The maximum length of a short sequence, which is neither padded nor cut into chunks."""
        return min(self.chunk_lengths, default=1)

    @property
    def max_length(self) -> int:
        """The maximum length of a sequence: even after padding, every token has a position."""
        positions = self.max_position_embeddings
        if self.axial_pos_embds:
            positions = min(positions, math.prod(self.axial_pos_shape))
        whole_chunks = positions - positions % self.chunk_multiple
        return max(whole_chunks, min(positions, self.min_chunk_length))

    def padded_length(self, length: int) -> int:
        """The length of a sequence of `length` tokens inside the model, at inference."""
        if length <= self.min_chunk_length:
            return length
        return length + -length % self.chunk_multiple

    # Hashing

    def num_buckets_for(self, sequence_length: int) -> tuple[int, ...]:
        """The bucket factors that Transformers picks at a first call with `sequence_length` tokens.

        Their product is a power of two near twice the number of chunks; a large one is split into
        two factors. A sequence of at most one chunk is not hashed; here it counts as one chunk.
        """
        chunk = self.lsh_attn_chunk_length
        chunks = max(self.padded_length(sequence_length) // chunk, 1)
        exponent = (2 * chunks).bit_length() - 1
        limit = 2 * max(math.isqrt(self.max_position_embeddings // chunk), chunk)
        if 2**exponent <= limit:
            return (2**exponent,)
        return (2 ** (exponent // 2), 2 ** (exponent - exponent // 2))

    def pinned(
        self,
        *,
        sequence_length: int | None = None,
        num_buckets: int | Sequence[int] | None = None,
        hash_seed: int | None = None,
    ) -> Pinned[ReformerConfig]:
        """This configuration with values for all settings that hashing depends on.

        If `num_buckets` is missing, Transformers chooses it at the first call, from the sequence
        length. If `hash_seed` is missing, Transformers draws new rotations at every call. An
        exported file needs both values to give reproducible results. The configuration of a model
        without LSH layers needs neither and is returned unchanged.

        Args:
            sequence_length: The length to choose a missing `num_buckets` for; `max_length` if None.
            num_buckets: Bucket factors that replace those of the configuration.
            hash_seed: A seed that replaces that of the configuration.

        Returns:
            The configuration, and one sentence about each value that was set or changed.

        Raises:
            ConfigError: The model does not accept this length, number of buckets or seed.
        """
        if sequence_length is not None:
            integer(1, self.max_length)("sequence_length", sequence_length)
        if "lsh" not in self.attn_layers:
            for name, value in (("num_buckets", num_buckets), ("hash_seed", hash_seed)):
                if value is not None:
                    raise ConfigError(
                        f"{name} = {value} was asked for, but the model has no LSH layers: leave "
                        "it out"
                    )
            return Pinned(self, ())

        notes = []
        if num_buckets is not None:
            factors = bucket_factors("num_buckets", num_buckets)
            if factors != self.num_buckets:
                was = self.num_buckets and _times(self.num_buckets)
                notes.append(_overridden("num_buckets", was, _times(factors)))
        elif self.num_buckets is None:
            length = self.max_length if sequence_length is None else sequence_length
            factors = self.num_buckets_for(length)
            notes.append(
                f"num_buckets was not set: pinned to {_times(factors)}, "
                f"which Transformers picks for sequences of {length} tokens."
            )
        else:
            factors = self.num_buckets

        seed = hash_seed if hash_seed is not None else self.hash_seed
        if seed is None:
            seed = 0
            notes.append(
                "hash_seed was not set: pinned to 0. The library of the model would draw new "
                "rotations at every call, so its outputs vary from call to call and ours do not."
            )
        elif seed != self.hash_seed:
            notes.append(_overridden("hash_seed", self.hash_seed, seed))
        return Pinned(replace(self, num_buckets=factors, hash_seed=seed), tuple(notes))

    # To and from config.json

    @classmethod
    def from_hf(
        cls, raw: Mapping[str, object], *, ignore_keys: Collection[str] = ()
    ) -> ReformerConfig:
        """The configuration in a config.json that any release of Transformers wrote.

        Args:
            raw: The parsed contents of the file.
            ignore_keys: Unknown keys to accept and ignore.

        Raises:
            ConfigError: The file is not of a Reformer, a value is wrong, or a key is unknown.
        """
        names = {declared.name for declared in fields(cls)}
        refuse_foreign(raw, known=names, ignored=ignore_keys)
        values = {name: value for name, value in raw.items() if name in names}
        values["num_labels"] = label_count(raw)
        layers = raw.get("attn_layers")
        if isinstance(layers, list | tuple) and "lsh" not in layers:
            unused = {name for name in _LSH_KEYS_THAT_MAY_BE_NULL if raw.get(name) is None}
            values = {name: value for name, value in values.items() if name not in unused}
        config = cls(**values)  # type: ignore[arg-type]  # every value is checked there
        built = built_layers(config.attn_layers, raw.get("num_hidden_layers"))
        return replace(config, attn_layers=built)

    def to_hf(self) -> dict[str, object]:
        """A config.json, as a dict, that Transformers builds an equal model from.

        If `beyond_transformers` names fields, it has these too, and only we can build the model.
        """
        raw: dict[str, object] = {"model_type": MODEL_TYPE}
        unused = set(_OWN_FIELDS) - set(self.beyond_transformers)
        for declared in fields(self):
            if declared.name in unused:
                continue
            value = getattr(self, declared.name)
            raw[declared.name] = list(value) if isinstance(value, tuple) else value
        if self.num_buckets is not None and len(self.num_buckets) == 1:
            raw["num_buckets"] = self.num_buckets[0]
        raw["num_hidden_layers"] = self.num_hidden_layers
        return raw


def _overridden(name: str, was: object, asked: object) -> str:
    before = "was not set" if was is None else f"was {was}"
    return f"{name} {before}: set to {asked} as asked."


def _times(factors: Sequence[int]) -> str:
    return "×".join(map(str, factors))
