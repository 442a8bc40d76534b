"""What the configurations of models that take series of numbers have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from reformer_models.config.model_config import ModelConfig
from reformer_models.config.reformer_config import ReformerConfig


@dataclass(frozen=True)
class SeriesConfig(ModelConfig):
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
    def time_features(self) -> int:
        """The numbers that describe the time of a step; 0 if the model takes none."""
        return 0

    @property
    def time_tables(self) -> tuple[int, ...]:
        """The size of the embedding table of each time feature, which then is an index; empty if
        time features are real numbers."""
        return ()

    @property
    def horizon(self) -> int:
        """The steps to forecast; 0 for a model that returns a step for each of its input."""
        return 0
