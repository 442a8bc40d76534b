"""The attentions that are compared, and their common skeleton."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from benchmarks.baselines.full import FullAttention
from benchmarks.baselines.linformer import LinformerAttention
from benchmarks.baselines.longformer import LongformerAttention
from benchmarks.baselines.performer import PerformerAttention
from reformer_export.source import ReformerConfig

GLOBAL_TOKENS = 1
_PERFORMER_CHUNK = 128


@dataclass(frozen=True)
class Skeleton:
    """Sizes of the model; `keys` is the number of keys for a query of any choice except full.

    These are keys, mixtures of keys, or random features, so all choices do about the same
    arithmetic. Without an `axial_shape` there is an embedding for every position.

    Raises:
        ConfigError: as `ReformerConfig`.
    """

    max_length: int
    axial_shape: tuple[int, int] | None
    keys: int
    rounds: int
    layers: int
    hidden: int = 256
    heads: int = 2
    head_dim: int = 64
    vocab_size: int = 320

    def config(self, kind: str, *, causal: bool) -> ReformerConfig:
        """The model with layers of a `kind` ("lsh", "local") that look one chunk back."""
        return ReformerConfig(
            architectures=("ReformerModelWithLMHead" if causal else "ReformerForMaskedLM",),
            attn_layers=(kind,) * self.layers,
            hidden_size=self.hidden,
            num_attention_heads=self.heads,
            attention_head_size=self.head_dim,
            feed_forward_size=2 * self.hidden,
            hidden_dropout_prob=0.0,
            lsh_attention_probs_dropout_prob=0.0,
            local_attention_probs_dropout_prob=0.0,
            lsh_attn_chunk_length=self.keys // (2 * self.rounds),
            local_attn_chunk_length=self.keys // 2,
            num_hashes=self.rounds,
            axial_pos_embds=self.axial_shape is not None,
            axial_pos_shape=self.axial_shape or (1, 1),
            axial_pos_embds_dim=(self.hidden // 4, self.hidden - self.hidden // 4),
            max_position_embeddings=self.max_length,
            vocab_size=self.vocab_size,
            is_decoder=causal,
        )


@dataclass(frozen=True)
class Choice:
    """An attention: its name, and a function that replaces the skeleton's attention.

    Attributes:
        kind: the kind of the skeleton's layers.
        replace: makes the attention of a layer from the skeleton's attention, the skeleton and the
            layer's number; None if the skeleton's attention is kept.
        causal: False if the attention cannot be causal.
    """

    name: str
    title: str
    kind: str = "local"
    replace: Callable[[Any, Skeleton, int], nn.Module] | None = None
    causal: bool = True

    def install(self, model: Any, skeleton: Skeleton) -> None:
        """Exchange the self-attention of every layer of a task model, in place."""
        if self.replace is None:
            return
        for number, layer in enumerate(model.reformer.encoder.layers):
            replaced = layer.attention.self_attention
            layer.attention.self_attention = self.replace(replaced, skeleton, number)


REFORMER = Choice("reformer", "Reformer (LSH)", kind="lsh")
LOCAL = Choice("local", "Reformer's local layers")
FULL = Choice("full", "full attention", replace=lambda own, *_: FullAttention(own))
LINFORMER = Choice(
    "linformer",
    "Linformer",
    replace=lambda own, skeleton, number: LinformerAttention(
        own, skeleton.max_length, skeleton.keys, number
    ),
    causal=False,
)
LONGFORMER = Choice(
    "longformer",
    "Longformer",
    replace=lambda own, skeleton, _: LongformerAttention(own, skeleton.keys, GLOBAL_TOKENS),
)
PERFORMER = Choice(
    "performer",
    "Performer",
    replace=lambda own, skeleton, number: PerformerAttention(
        own, skeleton.keys, _PERFORMER_CHUNK, number
    ),
)

CHOICES = (REFORMER, LOCAL, FULL, LINFORMER, LONGFORMER, PERFORMER)
"""All choices, in the order of tables."""
