"""The arguments of reformer-pytorch's classes, with the names and defaults of release 1.4.4."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

from reformer_models.checkpoints.sources.arguments import always_on, unused, without_effect
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

CONFIG_FILE: Final = "reformer_pytorch.json"
"""The file with the arguments."""

ACTIVATIONS: Final = {"GELU": "gelu", "ReLU": "relu", "SiLU": "silu", "Tanh": "tanh"}
"""Names of classes in torch.nn -> our names; the package takes the class itself."""


@dataclass(frozen=True)
class LayerArguments:
    """The arguments that both classes have. They need the first three, which have no default.

    `max_seq_len` is our own for `Reformer`: the longest sequence that the model is used for.

    Raises:
        ConfigError: A value is invalid, or our model can't express what it asks for.
    """

    class_name: ClassVar[str]
    """The name of the class."""
    prefix: ClassVar[str]
    """Before the names of the tensors of layers in the state dict."""
    required: ClassVar[tuple[str, ...]] = ("dim", "depth", "max_seq_len")
    """Arguments without a default."""

    dim: int = setting(0, integer(1))
    depth: int = setting(0, integer(1))
    max_seq_len: int = setting(0, integer(1))
    heads: int = setting(8, integer(1))
    dim_head: int | None = setting(None, optional(integer(1)))
    bucket_size: int = setting(64, integer(1))
    n_hashes: int = setting(8, integer(1))
    ff_chunks: object = setting(100, without_effect)
    attn_chunks: object = setting(None, without_effect)
    causal: bool = setting(False, flag)
    weight_tie: bool = setting(False, flag)
    lsh_dropout: object = setting(0.0, without_effect)
    ff_dropout: object = setting(0.0, without_effect)
    ff_mult: int = setting(4, integer(1))
    ff_activation: str | None = setting(
        None, optional(one_of(frozenset(ACTIVATIONS), kind="a class of torch.nn"))
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
    n_local_attn_heads: int = setting(0, integer(0))
    pkm_layers: object = setting((), unused("no product-key memory"))
    pkm_num_keys: object = setting(128, without_effect)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.dim_head is None and self.dim % self.heads:
            refuse("dim", f"a multiple of heads = {self.heads} without dim_head", self.dim)
        if self.rotary and self.head_size % 2:
            refuse("dim_head", "even with rotary positions", self.head_size)
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
    def head_size(self) -> int:
        """The size of a head."""
        return self.dim_head or self.dim // self.heads

    @property
    def rotary(self) -> bool:
        """True if the model has rotary positions."""
        return False

    @property
    def sublayer_norm(self) -> str:
        """The norm of our model; ReZero takes the place of the norm."""
        if self.use_rezero:
            return "none"
        return "scale" if self.use_scale_norm else "layer"

    @property
    def positions(self) -> int:
        """The number of positions."""
        return self.max_seq_len

    @property
    def num_buckets(self) -> int:
        """The number of buckets that the package uses for the longest sequence that it takes."""
        return 2 * ((self.positions + self.num_mem_kv) // (2 * self.bucket_size))


@dataclass(frozen=True)
class ReformerArguments(LayerArguments):
    """The arguments of `Reformer`, the layers alone."""

    class_name: ClassVar[str] = "Reformer"
    prefix: ClassVar[str] = ""

    lsh_attend_across_buckets: object = setting(True, always_on("attention across buckets"))
    lsh_allow_duplicate_attention: object = setting(
        True, always_on("rounds that may all see the same token")
    )


@dataclass(frozen=True)
class ReformerLMArguments(LayerArguments):
    """The arguments of `ReformerLM`, a model of tokens."""

    class_name: ClassVar[str] = "ReformerLM"
    prefix: ClassVar[str] = "reformer."
    required: ClassVar[tuple[str, ...]] = ("num_tokens", *LayerArguments.required)

    num_tokens: int = setting(0, integer(1))
    dim_head: int | None = setting(64, integer(1))
    n_hashes: int = setting(4, integer(1))
    attn_chunks: object = setting(1, without_effect)
    emb_dim: int | None = setting(None, optional(integer(1)))
    return_embeddings: bool = setting(False, flag)
    weight_tie_embedding: bool = setting(False, flag)
    fixed_position_emb: bool = setting(False, flag)
    absolute_position_emb: bool = setting(False, flag)
    axial_position_emb: bool = setting(False, flag)
    axial_position_shape: tuple[int, ...] | None = setting(
        None, optional(sequence(integer(1), at_least=1))
    )

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
