"""The arithmetic of a Reformer: the numerator of "share of the GEMM roofline".

The multiplications and additions of matrix products are counted, two for each multiply-add: the
projections, the feed-forward layers, the hashing, attention over all keys of the visited chunks,
and the head. Softmax, norms, sorting and gathering are not counted. Masked keys are counted, so a
kernel that skips them may exceed the roofline.

With P the padded length (`ReformerConfig.padded_length`), L the length, H hidden_size,
W = heads x head_size, F feed_forward_size, R rounds, V the vocabulary:

    projections   6 P H W for an LSH or full layer (query-key, value, output), 8 P H W for a local
                  one
    feed-forward  4 P H F for each layer, 6 P H F if it is gated
    hashing       P W R sum(num_buckets) for each LSH layer: a product with sum(num_buckets) / 2
                  columns in each round
    attention     4 P K W R for an LSH layer and 4 P K W for a local one, where K is the number of
                  keys of chunks_before + 1 + chunks_after chunks; 4 P P W for a full one.
                  Local heads of an LSH layer see two windows, or three if not causal.
    head          4 L H V for a language model

A sequence that fits in one chunk has full attention: K = P, one round, no hashing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reformer_export.source import ReformerConfig


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one sequence, by part."""

    projections: int
    feed_forward: int
    hashing: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.projections + self.feed_forward + self.hashing + self.attention + self.head


def chunk_attention_flops(
    length: int, width: int, chunk_length: int, before: int, after: int, rounds: int = 1
) -> int:
    """Attention of `length` queries, each over the keys of its chunk and the neighbouring chunks.

    Args:
        length: queries; at most `chunk_length`, or a multiple of it.
        width: heads x head_dim.
        chunk_length: tokens in a chunk.
        before: chunks before the query's chunk.
        after: chunks after the query's chunk.
        rounds: hash rounds; a sequence of one chunk has only one.

    Returns:
        Scores and weighted sum: 2 x 2 x queries x keys x width.
    """
    if length <= chunk_length:
        return 4 * length * length * width
    return 4 * length * rounds * chunk_length * (before + 1 + after) * width


def full_attention_flops(length: int, width: int, *, causal: bool) -> int:
    """Attention of `length` queries over all keys; if `causal`, without keys after the query."""
    pairs = length * (length + 1) // 2 if causal else length * length
    return 4 * pairs * width


def hashing_flops(length: int, width: int, rounds: int, factors: tuple[int, ...]) -> int:
    """Product of `length` vectors with sum(factors) / 2 columns in every round."""
    return length * width * rounds * sum(factors)


def model_flops(config: ReformerConfig, task: str, length: int) -> Flops:
    """One sequence of `length` tokens through the model.

    Args:
        config: with num_buckets set if there are LSH layers.
        task: determines the head.
        length: tokens, before padding.
    """
    padded, width = config.padded_length(length), _width(config)
    hashing = attention = 0
    for kind in config.attn_layers:
        if kind == "lsh":
            local = config.lsh_local_heads * config.attention_head_size
            attention += chunk_attention_flops(
                padded,
                width - local,
                config.lsh_attn_chunk_length,
                config.lsh_num_chunks_before,
                config.lsh_num_chunks_after,
                config.num_hashes,
            )
            window, windows = config.lsh_local_window, 2 if config.is_decoder else 3
            attention += 4 * (padded + -padded % window) * windows * window * local
            if padded > config.lsh_attn_chunk_length:
                hashing += hashing_flops(
                    padded, width - local, config.num_hashes, config.num_buckets or ()
                )
        elif kind == "full":
            attention += full_attention_flops(padded, width, causal=False)
        else:
            attention += chunk_attention_flops(
                padded,
                width,
                config.local_attn_chunk_length,
                config.local_num_chunks_before,
                config.local_num_chunks_after,
            )
    return _flops(config, task, length, hashing=hashing, attention=attention)


def full_model_flops(config: ReformerConfig, task: str, length: int) -> Flops:
    """The same model with softmax attention over the whole sequence in every layer."""
    each = full_attention_flops(
        config.padded_length(length), _width(config), causal=config.is_decoder
    )
    return _flops(config, task, length, hashing=0, attention=each * config.num_hidden_layers)


def _flops(
    config: ReformerConfig, task: str, length: int, *, hashing: int, attention: int
) -> Flops:
    padded, hidden = config.padded_length(length), config.hidden_size
    # LSH and full layers share query and key, so they have one projection less.
    matrices = sum(4 if kind == "local" else 3 for kind in config.attn_layers)
    inner = config.feed_forward_size * (3 if config.feed_forward_gated else 2)
    return Flops(
        projections=2 * padded * hidden * _width(config) * matrices,
        feed_forward=2 * padded * hidden * inner * config.num_hidden_layers,
        hashing=hashing,
        attention=attention,
        head=_head_flops(config, task, length),
    )


def _head_flops(config: ReformerConfig, task: str, length: int) -> int:
    both_streams = config.output_size
    if task in ("text-generation", "fill-mask"):
        return 2 * length * both_streams * config.vocab_size
    if task == "question-answering":
        return 2 * length * both_streams * config.num_labels
    if task == "text-classification":  # only of the first token
        return 2 * (both_streams * config.hidden_size + config.hidden_size * config.num_labels)
    return 0


def _width(config: ReformerConfig) -> int:
    return config.num_attention_heads * config.attention_head_size
