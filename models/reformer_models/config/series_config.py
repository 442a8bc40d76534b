"""What the configurations of models that take series of numbers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from reformer_models.config.model_config import Pinned
from reformer_models.config.reformer_config import ReformerConfig


@dataclass(frozen=True)
class SeriesConfig(ABC):
    """The configuration of a Reformer that takes series of numbers.

    Attributes:
        encoder: The sizes and the hashing of the layers.
    """

    encoder: ReformerConfig

    @property
    def attn_layers(self) -> tuple[str, ...]:
        """The kind of attention of each layer: "lsh" or "full"."""
        return self.encoder.attn_layers

    @property
    def num_buckets(self) -> tuple[int, ...] | None:
        """The factors of the number of buckets; None if not set."""
        return self.encoder.num_buckets

    @property
    def num_hashes(self) -> int:
        """The number of hash rounds."""
        return self.encoder.num_hashes

    @property
    def hash_seed(self) -> int | None:
        """The seed of the hash rotations; None if not set."""
        return self.encoder.hash_seed

    @property
    def has_cache(self) -> bool:
        """False: the model does not generate."""
        return False

    @property
    @abstractmethod
    def channels(self) -> int:
        """The numbers of each step of the input."""

    @property
    @abstractmethod
    def time_features(self) -> int:
        """The numbers that describe the time of a step; 0 if the model takes none."""

    @property
    @abstractmethod
    def time_tables(self) -> tuple[int, ...]:
        """The size of the embedding table of each time feature, which then is an index; empty if
        time features are real numbers."""

    @property
    @abstractmethod
    def horizon(self) -> int:
        """The steps to forecast; 0 for a model that returns a step for each of its input."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """The maximum number of steps of an input."""

    @property
    @abstractmethod
    def chunk_multiple(self) -> int:
        """Every padded length is a multiple of this number, unless the sequence is short."""

    @property
    @abstractmethod
    def changing_lengths(self) -> tuple[int, ...]:
        """Lengths at which the computation changes, besides multiples of `chunk_multiple`."""

    @property
    @abstractmethod
    def beyond_transformers(self) -> tuple[str, ...]:
        """What the model has and Transformers does not."""

    @abstractmethod
    def pinned(
        self,
        *,
        sequence_length: int | None = None,
        num_buckets: int | Sequence[int] | None = None,
        hash_seed: int | None = None,
    ) -> Pinned[SeriesConfig]:
        """This configuration with values for all settings that hashing depends on."""
