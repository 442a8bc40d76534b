"""Token embeddings plus learned or axial position embeddings."""

from __future__ import annotations

import torch
from torch import nn

from reformer_models.config import ReformerConfig
from reformer_models.layers.dropout import Dropout
from reformer_models.layers.quantised import Int8Embedding


class AxialPositionEmbeddings(nn.Module):
    """A position's embedding is the concatenation of one embedding per axis of a grid.

    The table of `prod(axial_pos_shape)` positions is never built: the coordinate of each axis is
    looked up separately. Source: Reformer, section 4 (appendix of the released model); the
    parameters' layout is Hugging Face's, `weights.i` of shape
    `[1, .., axial_pos_shape[i], .., 1, dim_i]`.
    """

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.shape = config.axial_pos_shape
        self.dropout = config.hidden_dropout_prob
        self.weights = nn.ParameterList()
        for axis, dim in enumerate(config.axial_pos_embds_dim):
            shape = [1] * len(self.shape)
            shape[axis] = self.shape[axis]
            self.weights.append(nn.Parameter(torch.ones(*shape, dim)))

    def forward(self, positions: torch.Tensor, batch: int) -> torch.Tensor:
        """`[length]` int64 -> `[length, hidden_size]`, or `[batch, length, hidden_size]`.

        The latter if dropout is active, because it differs between sequences. It drops all
        positions with the same last coordinate together, as Hugging Face does.
        """
        table = self._encode(positions)
        if not self.training or self.dropout == 0:
            return table
        kept = nn.functional.dropout(table.new_ones(batch, self.shape[-1]), self.dropout)
        return table * kept[:, positions % self.shape[-1], None]

    def _encode(self, positions: torch.Tensor) -> torch.Tensor:
        pieces = []
        for axis in reversed(range(len(self.shape))):
            # Positions are always in the grid, so the last quotient is the first axis' coordinate.
            coordinate = positions if axis == 0 else positions % self.shape[axis]
            pieces.append(self._look_up(axis, coordinate))
            if axis:
                positions = positions // self.shape[axis]
        return torch.cat(pieces[::-1], dim=-1)

    def _look_up(self, axis: int, coordinate: torch.Tensor) -> torch.Tensor:
        weight: object = self.weights[axis]
        if isinstance(weight, Int8Embedding):
            rows: torch.Tensor = weight(coordinate)
            return rows
        table = self.weights[axis].reshape(self.shape[axis], -1)
        return nn.functional.embedding(coordinate, table)


class PositionEmbeddings(nn.Module):
    """One learned embedding for each position."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, positions: torch.Tensor, batch: int) -> torch.Tensor:
        """`[length]` int64 -> `[length, hidden_size]`, or `[batch, length, hidden_size]`.

        The latter if dropout is active, because it differs between sequences.
        """
        result: torch.Tensor = self.embedding(positions)
        if self.training and self.dropout.p:
            result = self.dropout(result.expand(batch, -1, -1))
        return result


class ReformerEmbeddings(nn.Module):
    """The embeddings that both streams of the reversible encoder start from."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.position_embeddings: nn.Module | None = None
        if config.axial_pos_embds:
            self.position_embeddings = AxialPositionEmbeddings(config)
        elif not config.rotary_positions:
            self.position_embeddings = PositionEmbeddings(config)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """`[batch, length]` int64 -> `[batch, length, hidden_size]`."""
        batch, length = input_ids.shape
        positions = torch.arange(length, device=input_ids.device)
        words: torch.Tensor = self.dropout(self.word_embeddings(input_ids))
        if self.position_embeddings is None:
            return words
        encodings: torch.Tensor = self.position_embeddings(positions, batch)
        return words + encodings

    def at(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """`[batch, 1]` int64, a token of each row, and its position `[batch]` int64 ->
        `[batch, 1, hidden_size]`, without dropout."""
        words: torch.Tensor = self.word_embeddings(input_ids)
        if self.position_embeddings is None:
            return words
        encodings: torch.Tensor = self.position_embeddings(positions, 1)
        return words + encodings[:, None]
