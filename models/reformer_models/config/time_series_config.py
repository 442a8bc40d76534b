"""The configuration of a Reformer for time series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reformer_models.config.fields import check_fields, flag, integer, refuse, sequence, setting
from reformer_models.config.model_config import Pinned
from reformer_models.config.series_config import SeriesConfig


@dataclass(frozen=True)
class TimeSeriesConfig(SeriesConfig):
    """The configuration of a Reformer for time series: its inputs and outputs, and its encoder.

    Attributes:
        encoder: The sizes and the hashing of the layers, which are all LSH layers. Its
            max_position_embeddings bounds the steps of the input and the horizon together.
        channels: The numbers of each step of the input.
        output_channels: The numbers of each step of the output.
        sequence_length: The steps of the inputs that the model was trained with.
        horizon: The steps to forecast; 0 for a model that returns a step for each of its input.
        normalise: True if each channel is normalised by its own mean and deviation.
        time_features: The numbers that describe the time of a step; 0 if the model takes none.
        time_tables: The size of the embedding table of each time feature, which then is an index;
            empty if time features are real numbers.

    Raises:
        ConfigError: A field has an invalid value, or two fields contradict each other.
    """

    channels: int = setting(1, integer(1))
    output_channels: int = setting(1, integer(1))
    sequence_length: int = setting(96, integer(1))
    horizon: int = setting(0, integer(0))
    normalise: bool = setting(False, flag)
    time_features: int = setting(0, integer(0))
    time_tables: tuple[int, ...] = setting((), sequence(integer(1)))

    def __post_init__(self) -> None:
        check_fields(self)
        if set(self.encoder.attn_layers) != {"lsh"}:
            refuse("attn_layers", "lsh layers only", list(self.encoder.attn_layers))
        if self.time_tables and len(self.time_tables) != self.time_features:
            refuse("time_tables", f"{self.time_features} sizes", list(self.time_tables))
        if self.normalise and self.output_channels != self.channels:
            same = f"channels = {self.channels} with normalise"
            refuse("output_channels", same, self.output_channels)
        if self.sequence_length > self.max_length:
            longest = f"at most {self.max_length}: with the horizon, every step has a position"
            refuse("sequence_length", longest, self.sequence_length)

    @property
    def max_length(self) -> int:
        """The maximum number of steps of an input."""
        return self.encoder.max_position_embeddings - self.horizon

    @property
    def chunk_multiple(self) -> int:
        """Attention pads to a multiple of this number: two chunks."""
        return 2 * self.encoder.lsh_attn_chunk_length

    @property
    def changing_lengths(self) -> tuple[int, ...]:
        """The length of the training, and lengths around which the padding begins anew."""
        aligned = -self.horizon % self.chunk_multiple or self.chunk_multiple
        return (self.sequence_length, aligned)

    @property
    def beyond_transformers(self) -> tuple[str, ...]:
        """What the model has and Transformers does not."""
        return ("Reformer for time series",)

    @property
    def training_buckets(self) -> int:
        """The number of buckets that reformer-pytorch uses for the training's length: one for each
        chunk of the padded sequence."""
        steps = self.sequence_length + self.horizon
        return (steps + -steps % self.chunk_multiple) // self.encoder.lsh_attn_chunk_length

    def pinned(
        self,
        *,
        sequence_length: int | None = None,
        num_buckets: int | Sequence[int] | None = None,
        hash_seed: int | None = None,
    ) -> Pinned[TimeSeriesConfig]:
        """This configuration with a number of buckets and a seed; see `ReformerConfig.pinned`.

        A missing number of buckets is that of the training's length, whatever `sequence_length`.

        Raises:
            ConfigError: The model does not accept this length, number of buckets or seed.
        """
        notes: tuple[str, ...] = ()
        if sequence_length is not None:
            integer(1, self.max_length)("sequence_length", sequence_length)
        encoder = self.encoder
        if num_buckets is None and encoder.num_buckets is None:
            buckets = self.training_buckets
            encoder = replace(encoder, num_buckets=(buckets,))
            notes = (
                f"num_buckets is {buckets}, which reformer-pytorch uses for {self.sequence_length} "
                f"steps and a horizon of {self.horizon}; an export has one number for all lengths.",
            )
        pinned = encoder.pinned(num_buckets=num_buckets, hash_seed=hash_seed)
        return Pinned(replace(self, encoder=pinned.config), notes + pinned.notes)
