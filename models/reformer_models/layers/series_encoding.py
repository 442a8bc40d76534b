"""A Reformer without embeddings and head: vectors in, hidden states out."""

from __future__ import annotations

import torch
from torch import nn

from reformer_models.config import ReformerConfig, SeriesEncodingConfig
from reformer_models.errors import InputShapeError
from reformer_models.layers.feed_forward import is_traced
from reformer_models.layers.hashing import BucketSource
from reformer_models.layers.padding import padded, padding_of
from reformer_models.layers.reversible import ReversibleLayers
from reformer_models.layers.task_model import Axes, Outputs, TaskModel


class VectorReformer(nn.Module):
    """The reversible layers alone, without a norm after the last one."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.multiple = config.chunk_multiple
        self.encoder = ReversibleLayers(config)

    def forward(self, vectors: torch.Tensor, source: BucketSource | None = None) -> torch.Tensor:
        """`[batch, length, hidden]` -> `[batch, length, output]`, whatever the length."""
        shape, multiple = vectors.shape, self.multiple
        batch, length, _ = shape
        # Up to one chunk nothing is hashed, with padding or without: no length is special here.
        padding = padding_of(length, multiple=multiple)
        hidden = padded(vectors, shape, padding, multiple=multiple, value=0)
        places = torch.arange(hidden.shape[1], device=hidden.device)
        mask = (places < length)[None].expand(batch, -1)
        merged = self.encoder.merged(*self.encoder.streams(hidden, mask, source))
        return merged.narrow(1, 0, length)


class SeriesEncoding(TaskModel):
    """A Reformer that returns a hidden state for each vector of a series."""

    config: SeriesEncodingConfig

    def __init__(self, config: SeriesEncodingConfig) -> None:
        super().__init__()
        self.config = config
        self.reformer = VectorReformer(config.encoder)

    @property
    def output_axes(self) -> Axes:
        """The axes of the output, `last_hidden_state`."""
        return {"last_hidden_state": ("batch", "sequence", self.config.encoder.output_size)}

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        return next(self.parameters()).dtype

    def forward(self, series: torch.Tensor, source: BucketSource | None = None) -> Outputs:
        """Hidden states of every vector.

        Args:
            series: `[batch, length, channels]` fp32; every vector counts, none is masked.
            source: gives the buckets; used to record or to replace them (`BucketTrace`).

        Returns:
            `last_hidden_state`, `[batch, length, output_size]`, in the model's type.

        Raises:
            InputShapeError: the length is 0 or beyond `config.max_length`.
        """
        longest, length = self.config.max_length, series.shape[1]
        if not is_traced() and not 1 <= length <= longest:
            raise InputShapeError(f"this model takes 1 to {longest} steps; got {length}")
        return {"last_hidden_state": self.reformer(series.to(self.dtype), source)}
