"""The random rotations that hash queries into buckets: drawn once, then weights like any other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError


def draw_rotations(config: ReformerConfig) -> torch.Tensor:
    """`[heads, head_dim, num_hashes, sum(num_buckets) / 2]` fp32, as Hugging Face draws them.

    Hugging Face seeds the global generator with `hash_seed` at every call of every LSH layer, so
    all layers share one tensor. It is drawn on the CPU; the global generator is left alone here.

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
        config.num_attention_heads,
        config.attention_head_size,
        config.num_hashes,
        sum(config.num_buckets) // 2,
    )
    return torch.randn(shape, generator=generator, dtype=torch.float32)


class BucketTrace:
    """Watches the hashing of one forward pass, and can take it over.

    Hashing is a step function: where a rounding error moves one query to another bucket, all later
    numbers differ. To compare two runtimes beyond such a flip, both must use the same buckets.

    Attributes:
        forced: the buckets each LSH layer shall use; None for its own.
        computed: what each LSH layer hashed to, in order: `[batch, heads, num_hashes, length]`.
        queries: what it hashed, `[batch, length, heads, head_dim]`.
    """

    def __init__(self, forced: Sequence[torch.Tensor | None] | None = None) -> None:
        self.forced = forced
        self.computed: list[torch.Tensor] = []
        self.queries: list[torch.Tensor] = []

    def exchange(self, query: torch.Tensor, buckets: torch.Tensor) -> torch.Tensor:
        """Note what a layer computed; returns the buckets it shall use."""
        layer = len(self.computed)
        self.queries.append(query)
        self.computed.append(buckets)
        forced = None if self.forced is None else self.forced[layer]
        return buckets if forced is None else forced
