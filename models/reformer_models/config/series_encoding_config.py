"""The configuration of a Reformer without embeddings and head: vectors in, hidden states out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reformer_models.config.model_config import Pinned
from reformer_models.config.series_config import SeriesConfig


@dataclass(frozen=True)
class SeriesEncodingConfig(SeriesConfig):
    """The configuration of a model whose layers take the vectors of a series as they are.

    `encoder` has all settings. Its `hidden_size` is the size of a vector, and its
    `max_position_embeddings` is the number of vectors in the longest series.
    """

    @property
    def channels(self) -> int:
        """The size of a vector."""
        return self.encoder.hidden_size

    @property
    def max_length(self) -> int:
        """The maximum number of steps of an input."""
        return self.encoder.max_length

    @property
    def chunk_multiple(self) -> int:
        """Every padded length is a multiple of this number, unless the series is short."""
        return self.encoder.chunk_multiple

    @property
    def changing_lengths(self) -> tuple[int, ...]:
        """Lengths at which the computation changes, besides multiples of `chunk_multiple`."""
        return self.encoder.changing_lengths

    @property
    def beyond_transformers(self) -> tuple[str, ...]:
        """What the model has and Transformers does not."""
        return ("Reformer of vectors", *self.encoder.beyond_transformers)

    def pinned(
        self,
        *,
        sequence_length: int | None = None,
        num_buckets: int | Sequence[int] | None = None,
        hash_seed: int | None = None,
    ) -> Pinned[SeriesEncodingConfig]:
        """This configuration with a number of buckets and a seed; see `ReformerConfig.pinned`.

        Raises:
            ConfigError: The model does not accept this length, number of buckets or seed.
        """
        pinned = self.encoder.pinned(
            sequence_length=sequence_length, num_buckets=num_buckets, hash_seed=hash_seed
        )
        return Pinned(replace(self, encoder=pinned.config), pinned.notes)
