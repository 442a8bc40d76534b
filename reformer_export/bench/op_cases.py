"""The operators at several sizes and the operations they replace, as functions to be timed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reformer_export.bench.flops import chunk_attention_flops, full_attention_flops, hashing_flops
from reformer_export.host.optional import require

Work = Callable[[], Any]

_HASH_SEED = 0


@dataclass(frozen=True)
class Layer:
    """A causal attention layer without its linear layers, for one sequence.

    `num_buckets` is None if the bucket factors depend on the length, as Hugging Face chooses them.
    """

    name: str
    heads: int
    head_dim: int
    chunk_length: int
    rounds: int
    num_buckets: tuple[int, ...] | None = None

    @property
    def width(self) -> int:
        """The number of query values of a token, over all heads."""
        return self.heads * self.head_dim

    def factors(self, length: int) -> tuple[int, ...]:
        """The bucket factors. By default their product is a power of two, about two buckets for
        each chunk; a large product is split into two factors."""
        if self.num_buckets is not None:
            return self.num_buckets
        exponent = (2 * max(length // self.chunk_length, 1)).bit_length() - 1
        if 2**exponent <= 2 * self.chunk_length:
            return (2**exponent,)
        return (2 ** (exponent // 2), 2 ** (exponent - exponent // 2))

    def attention_flops(self, length: int) -> int:
        """The FLOPs of attention within chunks, for all rounds."""
        return chunk_attention_flops(length, self.width, self.chunk_length, 1, 0, self.rounds)

    def lsh_flops(self, length: int) -> int:
        """The FLOPs of hashing and attention."""
        hashing = hashing_flops(length, self.width, self.rounds, self.factors(length))
        return hashing + self.attention_flops(length)

    def full_flops(self, length: int) -> int:
        """The FLOPs of causal attention over the whole sequence."""
        return full_attention_flops(length, self.width, causal=True)


SMALL = Layer("d=64, chunk 64, 2 rounds, 4 heads", 4, 64, 64, 2)
ENWIK8 = Layer("enwik8 size: d=128, chunk 256, 4 rounds, 8 heads", 8, 128, 256, 4, (512,))


class Operands:
    """Random tensors for a layer, and the layer's operators applied to them."""

    def __init__(self, layer: Layer, length: int) -> None:
        self.layer, self.length = layer, length
        self._torch: Any = require("torch", purpose="measuring operators")
        generator = self._torch.Generator().manual_seed(length)

        def normal(*shape: int) -> Any:
            return self._torch.randn(*shape, generator=generator)

        shape = (1, length, layer.heads, layer.head_dim)
        self.query_key, self.key, self.value = normal(*shape), normal(*shape), normal(*shape)
        self.factors = layer.factors(length)
        # Drawn as Hugging Face does for this seed, so that both attend within the same buckets.
        self.rotations = self._torch.randn(
            (layer.heads, layer.head_dim, layer.rounds, sum(self.factors) // 2),
            generator=self._torch.Generator().manual_seed(_HASH_SEED),
        )
        self.mask = self._torch.ones(1, length, dtype=self._torch.bool)
        self._chunks: dict[str, Any] = {
            "chunk_length": layer.chunk_length,
            "num_chunks_before": 1,
            "num_chunks_after": 0,
            "causal": True,
        }

    def buckets(self) -> Any:
        """Run `lsh_bucket`."""
        from reformer_ops.torch_ops import lsh_bucket

        return lsh_bucket(self.query_key, self.rotations, self.mask, self.factors)

    def attention(self, buckets: Any) -> Any:
        """Run `sorted_chunk_attention`."""
        from reformer_ops.torch_ops import sorted_chunk_attention

        return sorted_chunk_attention(
            self.query_key,
            self.value,
            buckets,
            self.mask,
            num_buckets=math.prod(self.factors),
            **self._chunks,
        )

    def lsh(self) -> Any:
        """Run hashing and attention: an LSH layer without its linear layers."""
        return self.attention(self.buckets())

    def local(self) -> Any:
        """Run `chunk_attention`."""
        from reformer_ops.torch_ops import chunk_attention

        return chunk_attention(self.query_key, self.key, self.value, self.mask, **self._chunks)

    def sdpa(self) -> Any:
        """Run torch's causal attention over the whole sequence."""
        query, key, value = (
            tensor.transpose(1, 2) for tensor in (self.query_key, self.key, self.value)
        )
        attend = self._torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value, is_causal=True)

    def huggingface(self) -> Work:
        """A function that runs Hugging Face's LSHSelfAttention, without its linear layers, on the
        same tensors."""
        transformers = require("transformers", purpose="comparing with Hugging Face's layer")
        modeling = require(
            "transformers.models.reformer.modeling_reformer",
            purpose="comparing with Hugging Face's layer",
        )
        layer, torch = self.layer, self._torch
        config = transformers.ReformerConfig(
            attn_layers=["lsh"],
            hidden_size=layer.width,
            num_attention_heads=layer.heads,
            attention_head_size=layer.head_dim,
            lsh_attn_chunk_length=layer.chunk_length,
            num_buckets=list(self.factors) if len(self.factors) > 1 else self.factors[0],
            num_hashes=layer.rounds,
            axial_pos_embds=False,
            is_decoder=True,
            hash_seed=_HASH_SEED,
        )
        value = self.value.flatten(-2)

        class GivenValue(torch.nn.Module):  # type: ignore[name-defined]
            """Replaces the projection of the value."""

            def forward(self, hidden: Any) -> Any:
                return value

        module = modeling.LSHSelfAttention(config).eval()
        module.query_key, module.value = torch.nn.Identity(), GivenValue()
        hidden = self.query_key.flatten(-2)
        return lambda: module(hidden).hidden_states
