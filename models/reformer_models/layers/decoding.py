"""Generation: the prompt fills a cache, then every step takes one token and extends the cache.

Both are separate modules, which are exported beside the model. `cache_tensors` declares the tensors
of a cache; docs/generation.md defines what the modules compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError
from reformer_models.layers.attention import (
    FullSelfAttention,
    LocalSelfAttention,
    LSHSelfAttention,
    ReformerAttention,
    SelfAttention,
)
from reformer_models.layers.dense_attention import full_attention_step, keys, window_attention_step
from reformer_models.layers.hashing import BucketTrace
from reformer_models.layers.heads import TextGeneration
from reformer_models.layers.reversible import ReversibleLayer
from reformer_ops.torch_ops import chunk_attention_step, lsh_bucket, sorted_chunk_attention_step

Outputs = dict[str, torch.Tensor]

ORDER_BLOCK = 512
"""Tokens in a block of an LSH layer's order. On average a step moves half a block of numbers, and
writes one number to each block that follows."""


@dataclass(frozen=True)
class CacheTensor:
    """One tensor of a cache.

    Attributes:
        name: for example "key.3" in layer 3. Graphs have the input `past_key.3` and the output
            `present_key.3`.
        axes: sizes, or "batch", "capacity" (the tokens that the cache has room for) and "blocks"
            (the number of blocks of `ORDER_BLOCK` tokens that `capacity` tokens need).
        integers: True for int32, False for the model's dtype.
    """

    name: str
    axes: tuple[str | int, ...]
    integers: bool = False

    @property
    def past(self) -> str:
        """Its name as an input of a graph."""
        return f"past_{self.name}"

    @property
    def present(self) -> str:
        """Its name as an output of a graph."""
        return f"present_{self.name}"

    def zeros(self, batch: int, capacity: int, dtype: torch.dtype) -> torch.Tensor:
        """The tensor of an empty cache; `dtype` is the model's."""
        sizes = {"batch": batch, "capacity": capacity, "blocks": -(-capacity // ORDER_BLOCK)}
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in self.axes]
        return torch.zeros(shape, dtype=torch.int32 if self.integers else dtype)


def cache_tensors(config: ReformerConfig) -> tuple[CacheTensor, ...]:
    """The tensors of a cache, in the order of the layers.

    An LSH layer has the keys, values and buckets of all tokens, their order by bucket in blocks,
    and the start of each block. Its local heads have the keys, with length one, and the values of
    the last two windows. A full layer has the keys, with length one, and the values of all
    tokens. A local layer has the keys and values of the last `local_num_chunks_before + 1` chunks.
    In a tensor of the last tokens, the token at position p has the index p modulo their number.
    """
    return tuple(
        CacheTensor(f"{name}.{layer}", axes, integers)
        for layer, kind in enumerate(config.attn_layers)
        for name, axes, integers in _layer_tensors(config, kind)
    )


def _layer_tensors(
    config: ReformerConfig, kind: str
) -> Iterator[tuple[str, tuple[str | int, ...], bool]]:
    heads, head_dim = config.num_attention_heads, config.attention_head_size
    length: str | int = "capacity"
    if kind == "local":
        length = (config.local_num_chunks_before + 1) * config.local_attn_chunk_length
    if kind == "lsh":
        heads = config.hashing_heads
    yield "key", ("batch", length, heads, head_dim), False
    yield "value", ("batch", length, heads, head_dim), False
    if kind == "lsh":
        rounds = ("batch", heads, config.num_hashes)
        yield "buckets", (*rounds, "capacity"), True
        yield "order", (*rounds, "blocks", ORDER_BLOCK), True
        yield "starts", (*rounds, "blocks"), True
    if kind == "lsh" and config.lsh_local_heads:
        axes = ("batch", 2 * config.lsh_local_window, config.lsh_local_heads, head_dim)
        yield "local_key", axes, False
        yield "local_value", axes, False


class Prefill(nn.Module):
    """Takes a prompt; returns the logits of the next token and the cache.

    All prompts of a batch have the same length: padding would change a Reformer's results.
    """

    def __init__(self, model: TextGeneration) -> None:
        """Raises ConfigError if the config's `has_cache` is False."""
        super().__init__()
        if not model.config.has_cache:
            raise ConfigError(
                "generation with a cache has no place for memory vectors, and this model has "
                f"{model.config.num_memory_vectors}: use the task text-generation"
            )
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> Outputs:
        """`[batch, length]` int64 -> `logits` `[batch, 1, vocab_size]` and the present cache.

        Raises:
            InputShapeError: the length is 0 or beyond `config.max_length`.
        """
        ids, mask = self.model.reformer.padded(input_ids, None)
        return self.of_padded(ids, mask, input_ids.shape[1])

    def of_padded(self, ids: torch.Tensor, mask: torch.Tensor, length: int) -> Outputs:
        """The same for prompts of `length` tokens that are already padded.

        Args:
            ids: `[batch, padded]` int64.
            mask: `[batch, padded]` bool, False for padding.
            length: the length without padding.
        """
        reformer = self.model.reformer
        y1 = y2 = reformer.embeddings(ids)
        cache: list[torch.Tensor] = []
        for module in reformer.encoder.layers:
            layer = cast(ReversibleLayer, module)
            attention, trace = layer.attention, BucketTrace()
            attended, projected = _attend(attention, y2, mask, trace)
            cache += _cached(attention.self_attention, projected, trace.computed, length)
            y1 = attention.add_output(y1, attended)
            y2 = layer.feed_forward.add(y2, y1)
        hidden = reformer.encoder.merged(y1, y2).select(1, length - 1)
        names = [tensor.present for tensor in cache_tensors(self.model.config)]
        return {
            "logits": _logits(self.model, hidden)[:, None],
            **dict(zip(names, cache, strict=True)),
        }


def _attend(
    attention: ReformerAttention, hidden: torch.Tensor, mask: torch.Tensor, trace: BucketTrace
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What the output layer takes, and the projections, each `[batch, length, width]`."""
    layer = cast(SelfAttention, attention.self_attention)
    normed = attention.layer_norm(hidden)
    projected = [projection(normed) for projection in layer.projections]
    attended = layer.attend(*projected, mask=mask, source=trace)
    return attended, projected


def _cached(
    layer: nn.Module,
    projected: Sequence[torch.Tensor],
    buckets: Sequence[torch.Tensor],
    length: int,
) -> list[torch.Tensor]:
    """The tensors of `_layer_tensors` after a prompt of `length` tokens."""
    if isinstance(layer, LSHSelfAttention):
        key, value = (tensor[:, :length].unflatten(-1, layer.head_shape) for tensor in projected)
        local = []
        if layer.local_heads:
            local_key, key = layer.split(key)
            local_value, value = layer.split(value)
            room = 2 * layer.local_window
            local = [_last(t, length, room) for t in (keys(local_key), local_value)]
        key = layer.placed(key)
        (computed,) = buckets
        found = computed[..., :length]
        order = torch.argsort(found, dim=-1, stable=True).to(torch.int32)
        blocks = (length + ORDER_BLOCK - 1) // ORDER_BLOCK
        order = nn.functional.pad(order, [0, blocks * ORDER_BLOCK - length])
        order = order.unflatten(-1, (blocks, ORDER_BLOCK))
        return [key, value, found, order, torch.zeros_like(order[..., 0]), *local]
    if isinstance(layer, FullSelfAttention):
        key, value = (tensor[:, :length].unflatten(-1, layer.head_shape) for tensor in projected)
        return [keys(key), value]
    layer = cast(LocalSelfAttention, layer)
    window = (layer.num_chunks_before + 1) * layer.chunk_length
    return [
        _last(tensor, length, window).unflatten(-1, layer.head_shape) for tensor in projected[1:]
    ]


def _last(tensor: torch.Tensor, length: int, room: int) -> torch.Tensor:
    """`[batch, length, ..]` -> `[batch, room, ..]`: the last tokens, each at its position modulo
    `room`; if there is none yet, any value works."""
    age = (length - 1 - torch.arange(room, device=tensor.device)) % room
    return tensor.index_select(1, (length - 1 - age).clamp(min=0))


def _logits(model: TextGeneration, hidden: torch.Tensor) -> torch.Tensor:
    """`[.., output]`, the merged streams -> `[.., vocab_size]`."""
    return model.lm_head.logits(model.reformer.encoder.layer_norm(hidden))


class DecodeStep(nn.Module):
    """Takes one token and a cache; returns the logits of the next token and the extended cache.

    Sequences of a batch may have different lengths: each row gets the same result as alone. With
    `in_place` the new token is written into the given cache; otherwise that cache is unchanged.
    """

    def __init__(self, model: TextGeneration, *, in_place: bool = False) -> None:
        super().__init__()
        self.model = model
        self.in_place = in_place
        config = model.config
        # Up to this length a prompt is not hashed: it is at most one chunk, padding included.
        one_chunk = config.lsh_attn_chunk_length == config.chunk_multiple
        self.longest_unhashed = (
            config.lsh_attn_chunk_length if one_chunk else config.min_chunk_length
        )

    def forward(
        self,
        input_ids: torch.Tensor,
        past_length: torch.Tensor,
        prompt_length: torch.Tensor,
        *past: torch.Tensor,
    ) -> Outputs:
        """`logits` `[batch, 1, vocab_size]` and the present cache.

        Args:
            input_ids: `[batch, 1]` int64.
            past_length: `[batch]` int64, tokens in the cache, also the position of the new token.
            prompt_length: `[batch]` int64, tokens in the cache that belong to the prompt.
            past: the tensors that `cache_tensors` lists, with room for one more token.
        """
        reformer = self.model.reformer
        y1 = y2 = reformer.embeddings.at(input_ids, past_length)
        length = past_length.to(torch.int32)
        attend_all = self._attends_all(past_length, prompt_length)
        rest, cache = list(past), list[torch.Tensor]()
        kinds = self.model.config.attn_layers
        for module, kind in zip(reformer.encoder.layers, kinds, strict=True):
            layer = cast(ReversibleLayer, module)
            attention = layer.attention
            normed, of_kind = attention.layer_norm(y2), attention.self_attention
            count = sum(1 for _ in _layer_tensors(self.model.config, kind))
            taken, rest = rest[:count], rest[count:]
            if isinstance(of_kind, LSHSelfAttention):
                output, *present = _lsh_step(
                    of_kind, normed, taken, length, attend_all, self.in_place
                )
            elif isinstance(of_kind, FullSelfAttention):
                output, *present = _full_step(of_kind, normed, taken, length, self.in_place)
            else:
                local = cast(LocalSelfAttention, of_kind)
                output, *present = _local_step(local, normed, taken, length, self.in_place)
            cache += present
            y1 = attention.add_output(y1, output.flatten(-2)[:, None])
            y2 = layer.feed_forward.add(y2, y1)
        names = [tensor.present for tensor in cache_tensors(self.model.config)]
        hidden = reformer.encoder.merged(y1, y2).flatten(0, 1)
        return {
            "logits": _logits(self.model, hidden)[:, None],
            **dict(zip(names, cache, strict=True)),
        }

    def _attends_all(self, past_length: torch.Tensor, prompt_length: torch.Tensor) -> torch.Tensor:
        """`[batch]` bool: True while the tokens of a sequence are not hashed.

        Hugging Face hashes a prompt that is longer than one chunk. After a shorter prompt, it
        hashes all tokens at the first step where they fill a chunk, and uses the buckets from the
        next step on.
        """
        short = past_length < self.model.config.lsh_attn_chunk_length
        first_step = past_length == prompt_length
        return (prompt_length <= self.longest_unhashed) & (short | first_step)


def _lsh_step(
    layer: LSHSelfAttention,
    normed: torch.Tensor,
    past: Sequence[torch.Tensor],
    length: torch.Tensor,
    attend_all: torch.Tensor,
    in_place: bool,
) -> tuple[torch.Tensor, ...]:
    query_key, value = (
        projection(normed).flatten(0, 1).unflatten(-1, layer.head_shape)
        for projection in layer.projections
    )
    local: tuple[torch.Tensor, ...] = ()
    if layer.local_heads:
        local_query_key, query_key = layer.split(query_key)
        local_value, value = layer.split(value)
        places = length % (2 * layer.local_window)
        local_key = _written(past[5], keys(local_query_key), places, in_place)
        local_value = _written(past[6], local_value, places, in_place)
        near = window_attention_step(
            local_query_key, local_key, local_value, length, window=layer.local_window
        )
        local = (local_key, local_value)
    mask = torch.ones(1, 1, dtype=torch.bool, device=normed.device).expand(normed.shape[:2])
    buckets = lsh_bucket(query_key[:, None], layer.rotations, mask, layer.factors)
    past_key, past_value, past_buckets, past_order, past_starts = past[:5]
    output, *present = sorted_chunk_attention_step(
        layer.placed(query_key, length),
        value,
        buckets[..., 0],
        past_key,
        past_value,
        past_buckets,
        past_order,
        past_starts,
        length,
        attend_all,
        chunk_length=layer.chunk_length,
        num_chunks_before=layer.num_chunks_before,
        in_place=in_place,
    )
    if layer.local_heads:
        output = torch.cat([near, output], dim=1)
    return output, *present, *local


def _full_step(
    layer: FullSelfAttention,
    normed: torch.Tensor,
    past: Sequence[torch.Tensor],
    length: torch.Tensor,
    in_place: bool,
) -> tuple[torch.Tensor, ...]:
    query_key, value = (
        projection(normed).flatten(0, 1).unflatten(-1, layer.head_shape)
        for projection in layer.projections
    )
    present_key = _written(past[0], keys(query_key), length, in_place)
    present_value = _written(past[1], value, length, in_place)
    output = full_attention_step(query_key, present_key, present_value, length)
    return output, present_key, present_value


def _written(
    cache: torch.Tensor, new: torch.Tensor, places: torch.Tensor, in_place: bool
) -> torch.Tensor:
    """`[batch, tokens, heads, head_dim]` with `[batch, heads, head_dim]` at `places`, `[batch]`."""
    write = cache.index_put_ if in_place else cache.index_put
    rows = torch.arange(places.shape[0], device=places.device)
    written: torch.Tensor = write((rows, places.to(torch.int64)), new)
    return written


def _local_step(
    layer: LocalSelfAttention,
    normed: torch.Tensor,
    past: Sequence[torch.Tensor],
    length: torch.Tensor,
    in_place: bool,
) -> tuple[torch.Tensor, ...]:
    query, key, value = (
        projection(normed).flatten(0, 1).unflatten(-1, layer.head_shape)
        for projection in layer.projections
    )
    past_key, past_value = past
    return chunk_attention_step(
        query,
        key,
        value,
        past_key,
        past_value,
        length,
        chunk_length=layer.chunk_length,
        num_chunks_before=layer.num_chunks_before,
        in_place=in_place,
    )
