"""The random rotations that hash queries into buckets: drawn once, then used like weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError


def draw_rotations(config: ReformerConfig) -> torch.Tensor:
    """`[heads, head_dim, num_hashes, sum(num_buckets) / 2]` fp32, as Hugging Face draws them, for
    the heads that hash.

    Hugging Face seeds the global generator with `hash_seed` at every call of every LSH layer, so
    all layers share one tensor. It is drawn on the CPU; the global generator does not change here.

    Raises:
        ConfigError: `num_buckets` or `hash_seed` is not set (`ReformerConfig.pinned` sets both).
    """
    if config.num_buckets is None or config.hash_seed is None:
        raise ConfigError(
            "drawing hash rotations needs num_buckets and hash_seed; the config leaves one unset: "
            "use config.pinned(...)"
        )
    generator = torch.Generator().manual_seed(config.hash_seed)
    shape = (
        config.hashing_heads,
        config.attention_head_size,
        config.num_hashes,
        sum(config.num_buckets) // 2,
    )
    return torch.randn(shape, generator=generator, dtype=torch.float32)


class BucketSource(Protocol):
    """Where an LSH layer gets its buckets from."""

    def buckets(self, query: torch.Tensor, hashed: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The buckets `[batch, heads, num_hashes, length]` that a layer must use.

        `query` (`[batch, length, heads, head_dim]`) has the vectors to hash; `hashed()` hashes it.
        """
        ...


class BucketTrace:
    """Records the hashing of one forward pass, and can replace its buckets.

    Hashing is a step function: if a rounding error moves one query to another bucket, all later
    numbers differ. To compare two runtimes after such a flip, both must use the same buckets.

    Attributes:
        forced: the buckets that each LSH layer must use; None for its own.
        computed: the buckets of each LSH layer, in order: `[batch, heads, num_hashes, length]`.
        queries: the vectors that each LSH layer hashed, `[batch, length, heads, head_dim]`.
    """

    def __init__(self, forced: Sequence[torch.Tensor | None] | None = None) -> None:
        self.forced = forced
        self.computed: list[torch.Tensor] = []
        self.queries: list[torch.Tensor] = []

    def buckets(self, query: torch.Tensor, hashed: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Record the buckets that a layer computed; returns the buckets that it must use."""
        layer = len(self.computed)
        self.queries.append(query)
        self.computed.append(hashed())
        forced = None if self.forced is None else self.forced[layer]
        return self.computed[-1] if forced is None else forced


class BucketMemory:
    """The buckets of one layer, hashed once and then kept.

    A backward pass recomputes activations with other rounding, which could change buckets.

    Attributes:
        source: gives the buckets at the first call; None for the layer's own hashing.
        kept: the buckets; None before the first call, and in a layer that does not hash.
    """

    def __init__(self, source: BucketSource | None) -> None:
        self.source = source
        self.kept: torch.Tensor | None = None

    def buckets(self, query: torch.Tensor, hashed: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The buckets of the first call."""
        if self.kept is None:
            self.kept = hashed() if self.source is None else self.source.buckets(query, hashed)
        return self.kept
