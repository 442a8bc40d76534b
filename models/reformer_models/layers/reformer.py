"""The base model: it pads, embeds and encodes the tokens, and removes the padding."""

from __future__ import annotations

import torch
from torch import nn

from reformer_models.config import ReformerConfig
from reformer_models.errors import InputShapeError
from reformer_models.layers.embeddings import ReformerEmbeddings
from reformer_models.layers.hashing import BucketSource
from reformer_models.layers.padding import padded, padding_of
from reformer_models.layers.reversible import ReformerEncoder


class Reformer(nn.Module):
    """Hugging Face's `ReformerModel`, with the same parameter names."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = ReformerEmbeddings(config)
        self.encoder = ReformerEncoder(config)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        source: BucketSource | None = None,
        last_only: bool = False,
    ) -> torch.Tensor:
        """Hidden states of every token.

        Args:
            input_ids: `[batch, length]` int64.
            attention_mask: `[batch, length]`, zero for padding; all ones by default.
            source: gives the buckets; used to record or to replace them (`BucketTrace`).
            last_only: return only the last token of each row that the mask keeps.

        Returns:
            `[batch, length, output_size]`: both streams of the reversible encoder, merged. With
            `last_only`, `[batch, 1, output_size]`.

        Raises:
            InputShapeError: the length is 0 or beyond `config.max_length`.
        """
        ids, mask = self.padded(input_ids, attention_mask)
        hidden: torch.Tensor = self.encoder(self.embeddings(ids), mask, source, last_only)
        return hidden if last_only else hidden[:, : input_ids.shape[1]]

    def padded(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask `[batch, length]` -> `[batch, padded length]`, the mask as booleans.

        Raises:
            InputShapeError: the length is 0 or beyond `config.max_length`.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        length = input_ids.shape[1]
        if not torch.compiler.is_exporting() and not 1 <= length <= self.config.max_length:
            raise InputShapeError(
                f"this model takes 1 to {self.config.max_length} tokens; got {length}"
            )
        config, shape = self.config, input_ids.shape
        multiple = config.chunk_multiple
        padding = padding_of(length, multiple=multiple, shortest=config.min_chunk_length)
        ids = padded(input_ids, shape, padding, multiple=multiple, value=config.pad_token_id)
        mask = padded(attention_mask, shape, padding, multiple=multiple, value=0) != 0
        return ids, mask
