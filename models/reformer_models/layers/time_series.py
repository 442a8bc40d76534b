"""A Reformer for time series: numbers in and numbers out, with the layers of Time-Series-Library.

Its layers are not reversible, norms follow the sums, and the padding of attention is zeros that are
hashed and attended like all other steps.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from reformer_models.config import ReformerConfig, TimeSeriesConfig
from reformer_models.errors import InputShapeError
from reformer_models.layers.attention import LSHSelfAttention, SelfOutput
from reformer_models.layers.dropout import Dropout
from reformer_models.layers.feed_forward import FeedForwardDense, FeedForwardOutput, is_traced
from reformer_models.layers.hashing import BucketSource, draw_rotations
from reformer_models.layers.linear import Linear
from reformer_models.layers.padding import padded, padding_of
from reformer_models.layers.task_model import Axes, Outputs, TaskModel

FORECAST, RECONSTRUCTION = "forecast", "reconstruction"
"""Names of the output: of a model with a horizon, and of a model without one."""

_EPSILON = 1e-5
"""Added to the variance of a channel before it is normalised."""


def sinusoids(positions: int, size: int) -> torch.Tensor:
    """`[positions, size]` fp32, sines and cosines in turn (arXiv 1706.03762, section 3.5)."""
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
    angles = torch.arange(positions)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[:, :size]


class SeriesEmbeddings(nn.Module):
    """The embedding of a step: of its numbers and its neighbours', its position and its time."""

    positions: torch.Tensor

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        size = config.encoder.hidden_size
        # A convolution of width 3, as a product: every runtime has a fast one.
        self.values = Linear(3 * config.channels, size, bias=False)
        self.register_buffer("positions", sinusoids(config.encoder.max_position_embeddings, size))
        self.time: nn.Module | None = None
        if config.time_tables:
            self.time = TimeTables(config.time_tables, size)
        elif config.time_features:
            self.time = Linear(config.time_features, size, bias=False)
        self.dropout = Dropout(config.encoder.hidden_dropout_prob)

    def forward(self, values: torch.Tensor, time_features: torch.Tensor | None) -> torch.Tensor:
        """`[batch, length, channels]` and `[batch, length, features]` ->
        `[batch, length, hidden]`."""
        # The first and the last step are neighbours, too.
        ring = torch.cat([values[:, -1:], values, values[:, :1]], dim=1)
        neighbours = torch.cat([ring[:, :-2], ring[:, 1:-1], ring[:, 2:]], dim=-1)
        hidden: torch.Tensor = self.values(neighbours) + self.positions[: values.shape[1]]
        if self.time is not None:
            hidden = hidden + self.time(time_features)
        result: torch.Tensor = self.dropout(hidden)
        return result


class TimeTables(nn.ModuleList):
    """The sum of one embedding for each time feature, such as the month and the hour."""

    def __init__(self, sizes: tuple[int, ...], hidden_size: int) -> None:
        super().__init__(nn.Embedding(size, hidden_size) for size in sizes)

    def forward(self, time_features: torch.Tensor) -> torch.Tensor:
        """`[batch, length, features]` of whole numbers -> `[batch, length, hidden]`."""
        places = time_features.to(torch.int64)
        found = [table(places[..., feature]) for feature, table in enumerate(self)]
        return torch.stack(found).sum(dim=0)


class SeriesLayer(nn.Module):
    """LSH attention and a feed-forward; each is added to its input, and a norm follows."""

    def __init__(self, config: ReformerConfig, rotations: torch.Tensor) -> None:
        super().__init__()
        self.attention = LSHSelfAttention(config, rotations)
        self.output = SelfOutput(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = FeedForwardDense(config)
        self.down = FeedForwardOutput(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden: torch.Tensor,
        kept: torch.Tensor,
        mask: torch.Tensor,
        source: BucketSource | None,
    ) -> torch.Tensor:
        """`[batch, padded, hidden]` -> the same.

        `kept` `[padded, 1]` is 1 for a step and 0 for padding; `mask` `[batch, padded]` is True.
        """
        attended = self.output(self.attention(hidden * kept, mask, source))
        hidden = self.attention_norm(hidden + attended)
        result: torch.Tensor = self.feed_forward_norm(hidden + self.down(self.up(hidden)))
        return result


class SeriesEncoder(nn.Module):
    """The layers and the last norm."""

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        encoder = config.encoder
        self.multiple = config.chunk_multiple
        rotations = draw_rotations(encoder)
        self.layers = nn.ModuleList(SeriesLayer(encoder, rotations) for _ in encoder.attn_layers)
        self.layer_norm = nn.LayerNorm(encoder.hidden_size, eps=encoder.layer_norm_eps)

    def forward(self, hidden: torch.Tensor, source: BucketSource | None) -> torch.Tensor:
        """`[batch, length, hidden]` -> `[batch, padded, hidden]`; the padding comes last."""
        shape, multiple = hidden.shape, self.multiple
        padding = padding_of(shape[1], multiple=multiple)
        hidden = padded(hidden, shape, padding, multiple=multiple, value=0)
        places = torch.arange(hidden.shape[1], device=hidden.device)
        kept = (places < shape[1]).to(hidden.dtype)[:, None]
        # No step is masked: attention sees the padding, whose keys and values are zeros.
        mask = hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
        for layer in self.layers:
            hidden = layer(hidden, kept, mask, source)
        result: torch.Tensor = self.layer_norm(hidden)
        return result


class SeriesReformer(nn.Module):
    """The embeddings and the encoder."""

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.embeddings = SeriesEmbeddings(config)
        self.encoder = SeriesEncoder(config)

    def forward(
        self,
        values: torch.Tensor,
        time_features: torch.Tensor | None = None,
        source: BucketSource | None = None,
    ) -> torch.Tensor:
        """`[batch, length, channels]` -> `[batch, padded, hidden]`; the padding comes last."""
        hidden: torch.Tensor = self.encoder(self.embeddings(values, time_features), source)
        return hidden


class TimeSeriesReformer(TaskModel):
    """A Reformer that forecasts a series or, without a horizon, reconstructs it."""

    config: TimeSeriesConfig

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.config = config
        self.reformer = SeriesReformer(config)
        self.projection = Linear(config.encoder.hidden_size, config.output_channels)

    @property
    def output_axes(self) -> Axes:
        """The axes of the output: `forecast` or `reconstruction`."""
        config = self.config
        if config.horizon:
            return {FORECAST: ("batch", config.horizon, config.output_channels)}
        return {RECONSTRUCTION: ("batch", "sequence", config.output_channels)}

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        return self.reformer.encoder.layer_norm.weight.dtype

    def forward(
        self,
        series: torch.Tensor,
        time_features: torch.Tensor | None = None,
        source: BucketSource | None = None,
    ) -> Outputs:
        """The forecast, or the reconstruction.

        Args:
            series: `[batch, length, channels]` fp32, in the order of time.
            time_features: `[batch, length + horizon, features]` fp32, for a model that takes them:
                also of the steps that are forecast.
            source: gives the buckets; used to record or to replace them (`BucketTrace`).

        Returns:
            `forecast`, `[batch, horizon, output_channels]`, or, without a horizon,
            `reconstruction`, `[batch, length, output_channels]`, in the model's type.

        Raises:
            InputShapeError: the length is 0 or beyond `config.max_length`.
        """
        config, length = self.config, series.shape[1]
        if not is_traced() and not 1 <= length <= config.max_length:
            raise InputShapeError(f"this model takes 1 to {config.max_length} steps; got {length}")
        values = series
        if config.normalise:
            mean = series.mean(dim=1, keepdim=True)
            variance = series.var(dim=1, keepdim=True, unbiased=False)
            deviation = torch.sqrt(variance + _EPSILON)
            values = (series - mean) / deviation
        if config.horizon:
            batch, _, channels = series.shape
            future = series.new_zeros((batch, config.horizon, channels))
            values = torch.cat([values, future], dim=1)
        if time_features is not None:
            time_features = time_features.to(self.dtype)
        hidden = self.reformer(values.to(self.dtype), time_features, source)
        first, steps = (length, config.horizon) if config.horizon else (0, length)
        outputs: torch.Tensor = self.projection(hidden.narrow(1, first, steps))
        if config.normalise:
            outputs = (outputs.to(torch.float32) * deviation + mean).to(self.dtype)
        (name,) = self.output_axes
        return {name: outputs}
