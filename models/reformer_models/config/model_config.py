"""What the configurations of all models have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

C_co = TypeVar("C_co", covariant=True)


class Pinned(NamedTuple, Generic[C_co]):
    """A configuration with values for all settings that hashing depends on.

    Attributes:
        config: The configuration.
        notes: One sentence about each value that was set or changed.
    """

    config: C_co
    notes: tuple[str, ...]


class ModelConfig(Protocol):
    """The configuration of a model: its layers, the lengths it takes, and how it hashes."""

    @property
    def attn_layers(self) -> tuple[str, ...]:
        """The kind of attention of each layer: "local", "lsh" or "full"."""
        ...

    @property
    def num_buckets(self) -> tuple[int, ...] | None:
        """The factors of the number of buckets; None if not set."""
        ...

    @property
    def num_hashes(self) -> int:
        """The number of hash rounds."""
        ...

    @property
    def hash_seed(self) -> int | None:
        """The seed of the hash rotations; None if not set."""
        ...

    @property
    def has_cache(self) -> bool:
        """True if a model can generate with a cache."""
        ...

    @property
    def max_length(self) -> int:
        """The maximum length of a sequence that the model takes."""
        ...

    @property
    def chunk_multiple(self) -> int:
        """Every padded length is a multiple of this number, unless the sequence is short."""
        ...

    @property
    def changing_lengths(self) -> tuple[int, ...]:
        """Lengths at which the computation changes, besides multiples of `chunk_multiple`."""
        ...

    @property
    def beyond_transformers(self) -> tuple[str, ...]:
        """What the model has and Transformers does not."""
        ...

    def pinned(
        self,
        *,
        sequence_length: int | None = None,
        num_buckets: int | Sequence[int] | None = None,
        hash_seed: int | None = None,
    ) -> Pinned[ModelConfig]:
        """This configuration with values for all settings that hashing depends on."""
        ...
