"""Checkpoints of lucidrains' package reformer-pytorch: `ReformerLM`, and `Reformer` alone.

The package saves only weights, so the user writes the constructor's arguments beside them, in
reformer_pytorch.json: `{"class": "ReformerLM", "num_tokens": 256, ...}`; docs/sources.md shows how.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from reformer_models.checkpoints.sources.arguments import read_arguments
from reformer_models.checkpoints.sources.base import Described, Source
from reformer_models.checkpoints.sources.lucidrains.arguments import (
    ACTIVATIONS,
    CONFIG_FILE,
    LayerArguments,
    ReformerArguments,
    ReformerLMArguments,
)
from reformer_models.checkpoints.sources.lucidrains.tensors import translated
from reformer_models.config import ReformerConfig, SeriesEncodingConfig
from reformer_models.config.fields import one_of
from reformer_models.tasks import SERIES_ENCODING, SERIES_TASKS

_CLASSES: Final[Mapping[str, type[ReformerArguments | ReformerLMArguments]]] = {
    kind.class_name: kind for kind in (ReformerArguments, ReformerLMArguments)
}

# What the package computes with torch.nn.LayerNorm's default.
_LAYER_NORM_EPS: Final = 1e-5


def _describe(raw: Mapping[str, object], ignore_keys: Collection[str]) -> Described:
    arguments = _arguments(raw, ignore_keys)
    config: ReformerConfig | SeriesEncodingConfig
    if isinstance(arguments, ReformerLMArguments):
        config = _config(arguments, vocab_size=arguments.num_tokens)
        architecture = _architecture(arguments)
    else:
        config = SeriesEncodingConfig(_config(arguments))
        architecture = SERIES_TASKS[SERIES_ENCODING]
    return Described(
        config,
        architecture,
        translated=lambda tensors: translated(tensors, arguments),
        notes=(
            f"{CONFIG_FILE} was found: the checkpoint is read as a {arguments.class_name} of "
            "reformer-pytorch.",
            *_hashing_notes(arguments),
        ),
    )


def _arguments(
    raw: Mapping[str, object], ignore_keys: Collection[str]
) -> ReformerArguments | ReformerLMArguments:
    names = frozenset(_CLASSES)
    name = str(one_of(names, kind="a class of reformer-pytorch")("class", raw.get("class")))
    kind = _CLASSES[name]
    arguments = {name: value for name, value in raw.items() if name != "class"}
    return read_arguments(
        kind,
        arguments,
        ignore_keys,
        required=kind.required,
        owner=f"{name} in reformer-pytorch 1.4.4",
    )


def _config(arguments: LayerArguments, *, vocab_size: int = 1) -> ReformerConfig:
    """The configuration of the layers, and of what is around them in `ReformerLM`."""
    return ReformerConfig(
        attention_head_size=arguments.head_size,
        attention_output_bias=True,
        attn_layers=("full" if arguments.full else "lsh",) * arguments.depth,
        axial_pos_embds=False,
        feed_forward_gated=arguments.ff_glu,
        feed_forward_size=arguments.ff_mult * arguments.dim,
        hidden_act=ACTIVATIONS[arguments.ff_activation or "GELU"],
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
        vocab_size=vocab_size,
    )


def _architecture(arguments: ReformerLMArguments) -> str:
    if arguments.return_embeddings:
        return "ReformerModel"
    return "ReformerModelWithLMHead" if arguments.causal else "ReformerForMaskedLM"


def _hashing_notes(arguments: LayerArguments) -> Iterator[str]:
    if not arguments.full:
        buckets = arguments.num_buckets
        length = buckets * arguments.bucket_size - arguments.num_mem_kv
        yield (
            f"num_buckets is {buckets}, which reformer-pytorch uses for sequences of length "
            f"{length}; it uses length / bucket_size buckets, and an export has one number for all "
            "lengths."
        )
    elif arguments.rotary:
        yield "The model has no positions: full attention of reformer-pytorch leaves them out."


LUCIDRAINS: Final = Source("lucidrains", CONFIG_FILE, _describe)
