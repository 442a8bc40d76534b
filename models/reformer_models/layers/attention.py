"""The kinds of self-attention and their sublayer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError
from reformer_models.layers.dense_attention import full_attention, window_attention
from reformer_models.layers.dropout import Dropout
from reformer_models.layers.hashing import BucketSource
from reformer_models.layers.linear import Linear, is_plain
from reformer_models.layers.memory import Memory
from reformer_models.layers.norms import sublayer_norm
from reformer_models.layers.rotary import rotary
from reformer_ops.torch_ops import chunk_attention, lsh_bucket, sorted_chunk_attention
from reformer_ops.training.choice import serves
from reformer_ops.training.projections.torch_op import projections


class SelfAttention(nn.Module, ABC):
    """Projections of the hidden states, and attention over them."""

    @property
    @abstractmethod
    def projections(self) -> tuple[Linear, ...]:
        """The linear layers that give the inputs of `attend`, in its order."""

    @abstractmethod
    def attend(
        self, *projected: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> torch.Tensor:
        """`[batch, length, width]` each and `[batch, length]` bool -> `[batch, length, width]`."""

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> torch.Tensor:
        """`[batch, length, hidden]` and `[batch, length]` bool -> `[batch, length, width]`."""
        projected = (projection(hidden) for projection in self.projections)
        return self.attend(*projected, mask=mask, source=source)


def _memory(config: ReformerConfig, heads: int, multiple: int = 1) -> Memory | None:
    if not config.num_memory_vectors:
        return None
    head_dim = config.attention_head_size
    return Memory(config.num_memory_vectors, heads, head_dim, multiple=multiple)


class LSHSelfAttention(SelfAttention):
    """Shared-QK attention among tokens that hash alike (Reformer, section 2)."""

    rotations: torch.Tensor
    redraw = False
    """True if every forward pass in train mode draws new rotations."""

    def __init__(self, config: ReformerConfig, rotations: torch.Tensor) -> None:
        super().__init__()
        if config.num_buckets is None:
            raise ConfigError("num_buckets is not set: use config.pinned(...)")
        self.head_shape = (config.num_attention_heads, config.attention_head_size)
        width = config.num_attention_heads * config.attention_head_size
        self.factors = list(config.num_buckets)
        self.num_buckets = config.bucket_count
        self.chunk_length = config.lsh_attn_chunk_length
        self.num_chunks_before = config.lsh_num_chunks_before
        self.num_chunks_after = config.lsh_num_chunks_after
        self.local_heads = config.lsh_local_heads
        self.local_window = config.lsh_local_window
        self.causal = config.is_decoder
        self.rotary = config.rotary_positions
        self.memory = _memory(config, config.hashing_heads, config.lsh_attn_chunk_length)
        self.dropout = config.lsh_attention_probs_dropout_prob
        self.query_key = Linear(config.hidden_size, width, bias=False)
        self.value = Linear(config.hidden_size, width, bias=False)
        self.register_buffer("rotations", rotations, persistent=False)

    def _apply(self, fn: Callable[..., torch.Tensor], recurse: bool = True) -> LSHSelfAttention:
        # Rotations move with the module but stay fp32 in a half-precision model: rounded rotations
        # would give other buckets.
        rotations = self.rotations
        super()._apply(fn, recurse)
        self.rotations = rotations.to(self.rotations.device)
        return self

    @property
    def projections(self) -> tuple[Linear, ...]:
        """The projections of the shared query and key, and of the value."""
        return self.query_key, self.value

    def attend(
        self, *projected: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> torch.Tensor:
        """`[batch, length, width]` each and `[batch, length]` bool -> `[batch, length, width]`."""
        query_key, value = (tensor.unflatten(-1, self.head_shape) for tensor in projected)
        if not self.local_heads:
            return self._attend_hashed(query_key, value, mask, source).flatten(-2)
        local_query_key, query_key = self.split(query_key)
        local_value, value = self.split(value)
        local = window_attention(
            local_query_key, local_value, mask, window=self.local_window, causal=self.causal
        )
        hashed = self._attend_hashed(query_key, value, mask, source)
        return torch.cat([local, hashed], dim=2).flatten(-2)

    def split(self, tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`[.., heads, head_dim]` -> the local heads, and those that hash."""
        return tensor.split([self.local_heads, tensor.shape[-2] - self.local_heads], dim=-2)

    def _attend_hashed(
        self,
        query_key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        source: BucketSource | None,
    ) -> torch.Tensor:
        """`[batch, length, heads, head_dim]` of the heads that hash -> the same."""
        placed, memory = self.placed(query_key), self.memory
        if memory is None:
            buckets = self._buckets(query_key, mask, source)
            return self._attend_sorted(placed, value, buckets, mask, self.num_buckets)
        # The memory is hashed like the tokens, but it has no positions.
        joined, length = memory.with_keys(query_key), mask.shape[1]
        placed = memory.with_keys(placed) if self.rotary else joined
        value, mask = memory.with_values(value), memory.with_mask(mask)
        buckets = memory.after_tokens(self._buckets(joined, mask, source))
        output = self._attend_sorted(placed, value, buckets, mask, 2 * self.num_buckets)
        return memory.removed(output, length)

    def _buckets(
        self, query_key: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> torch.Tensor:
        """`[batch, heads, num_hashes, length]` int32."""
        # Drawn even if `source` already has the buckets: the random numbers after these must be the
        # same in the backward pass.
        redraw = self.training and self.redraw
        rotations = torch.randn_like(self.rotations) if redraw else self.rotations

        def hashed() -> torch.Tensor:
            return lsh_bucket(query_key, rotations, mask, self.factors)

        return hashed() if source is None else source.buckets(query_key, hashed)

    def _attend_sorted(
        self,
        query_key: torch.Tensor,
        value: torch.Tensor,
        buckets: torch.Tensor,
        mask: torch.Tensor,
        num_buckets: int,
    ) -> torch.Tensor:
        return sorted_chunk_attention(
            query_key,
            value,
            buckets,
            mask,
            num_buckets=num_buckets,
            chunk_length=self.chunk_length,
            num_chunks_before=self.num_chunks_before,
            num_chunks_after=self.num_chunks_after,
            causal=self.causal,
            dropout=self.dropout if self.training else 0.0,
        )

    def placed(
        self, query_key: torch.Tensor, positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The vectors, turned by their positions if the model is rotary; else unchanged.

        The tokens are hashed before, so a bucket does not depend on the position.

        Args:
            query_key: `[..., length, heads, head_dim]`.
            positions: integers `[..., length]`; 0, 1, 2, ... if None.
        """
        if not self.rotary:
            return query_key
        if positions is None:
            positions = torch.arange(query_key.shape[-3], device=query_key.device)
        return rotary(query_key, positions)


class FullSelfAttention(SelfAttention):
    """Shared-QK attention to the whole sequence, without hashing."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.head_shape = (config.num_attention_heads, config.attention_head_size)
        width = config.num_attention_heads * config.attention_head_size
        self.causal = config.is_decoder
        self.memory = _memory(config, config.num_attention_heads)
        self.query_key = Linear(config.hidden_size, width, bias=False)
        self.value = Linear(config.hidden_size, width, bias=False)

    @property
    def projections(self) -> tuple[Linear, ...]:
        """The projections of the shared query and key, and of the value."""
        return self.query_key, self.value

    def attend(
        self, *projected: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> torch.Tensor:
        """`[batch, length, width]` each and `[batch, length]` bool -> `[batch, length, width]`."""
        query_key, value = (tensor.unflatten(-1, self.head_shape) for tensor in projected)
        memory, length = self.memory, mask.shape[1]
        if memory is None:
            return full_attention(query_key, value, mask, causal=self.causal).flatten(-2)
        query_key, value = memory.with_keys(query_key), memory.with_values(value)
        output = full_attention(query_key, value, memory.with_mask(mask), causal=self.causal)
        return memory.removed(output, length).flatten(-2)


class LocalSelfAttention(SelfAttention):
    """Attention within a window of neighbouring chunks."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.head_shape = (config.num_attention_heads, config.attention_head_size)
        width = config.num_attention_heads * config.attention_head_size
        self.chunk_length = config.local_attn_chunk_length
        self.num_chunks_before = config.local_num_chunks_before
        self.num_chunks_after = config.local_num_chunks_after
        self.causal = config.is_decoder
        self.dropout = config.local_attention_probs_dropout_prob
        self.query = Linear(config.hidden_size, width, bias=False)
        self.key = Linear(config.hidden_size, width, bias=False)
        self.value = Linear(config.hidden_size, width, bias=False)

    @property
    def projections(self) -> tuple[Linear, ...]:
        """The projections of query, key and value."""
        return self.query, self.key, self.value

    def attend(
        self, *projected: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> torch.Tensor:
        """`[batch, length, width]` each and `[batch, length]` bool -> `[batch, length, width]`."""
        query, key, value = (tensor.unflatten(-1, self.head_shape) for tensor in projected)
        output = chunk_attention(
            query,
            key,
            value,
            mask,
            chunk_length=self.chunk_length,
            num_chunks_before=self.num_chunks_before,
            num_chunks_after=self.num_chunks_after,
            causal=self.causal,
            dropout=self.dropout if self.training else 0.0,
        )
        return output.flatten(-2)


class SelfOutput(nn.Module):
    """The projection back to the hidden size."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        width = config.num_attention_heads * config.attention_head_size
        self.dense = Linear(width, config.hidden_size, bias=config.attention_output_bias)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, attended: torch.Tensor) -> torch.Tensor:
        """`[batch, length, width]` -> `[batch, length, hidden]`."""
        result: torch.Tensor = self.dropout(self.dense(attended))
        return result


class ReformerAttention(nn.Module):
    """The function `f` of a reversible layer: norm, attention, projection."""

    def __init__(self, config: ReformerConfig, kind: str, rotations: torch.Tensor | None) -> None:
        super().__init__()
        self.layer_norm = sublayer_norm(config)
        if kind == "local":
            self.self_attention: nn.Module = LocalSelfAttention(config)
        elif kind == "full":
            self.self_attention = FullSelfAttention(config)
        elif rotations is not None:
            self.self_attention = LSHSelfAttention(config, rotations)
        else:
            raise ConfigError("an LSH layer needs hash rotations: see hashing.draw_rotations")
        self.output: nn.Module = SelfOutput(config)

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> torch.Tensor:
        """`[batch, length, hidden]` -> the same."""
        result: torch.Tensor = self.output(self.attended(hidden, mask, source))
        return result

    def add(
        self,
        stream: torch.Tensor,
        hidden: torch.Tensor,
        mask: torch.Tensor,
        source: BucketSource | None,
    ) -> torch.Tensor:
        """The sum of a stream and the attention of the other one, `[batch, length, hidden]`."""
        result: torch.Tensor = stream + self(hidden, mask, source)
        return result

    def attended(
        self, hidden: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> torch.Tensor:
        """`[batch, length, hidden]` -> `[batch, length, width]`, before the output layer."""
        projected = self._projected(hidden)
        if projected is None:
            normed = self.layer_norm(hidden)
            attended: torch.Tensor = self.self_attention(normed, mask, source)
            return attended
        attention = cast(SelfAttention, self.self_attention)
        return attention.attend(*projected, mask=mask, source=source)

    def add_output(self, stream: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The sum of a stream and the output layer of `[batch, length, width]`."""
        result: torch.Tensor = stream + self.output(attended)
        return result

    def _projected(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
        """Inputs of `attend` from the fused norm and projection kernel; None if that path does not
        apply.

        `self_attention` may have been replaced by another module.
        """
        attention, norm = self.self_attention, self.layer_norm
        if not (self.training and isinstance(attention, SelfAttention)):
            return None
        if not isinstance(norm, nn.LayerNorm):
            return None
        layers = attention.projections
        if not is_plain(norm, attention, *layers):
            return None
        weights = [layer.weight for layer in layers]
        if not serves(hidden, *weights):
            return None
        return projections(hidden, norm.weight, norm.bias, weights, epsilon=norm.eps)


def redraw_rotations(model: nn.Module, redraw: bool) -> None:
    """Set whether the LSH layers of `model` draw new rotations at every forward pass in train mode.

    New rotations come from the global generator. Eval mode always uses the model's rotations.
    """
    for module in model.modules():
        if isinstance(module, LSHSelfAttention):
            module.redraw = redraw
