"""The base model: it pads, embeds and encodes the tokens, and removes the padding."""

from __future__ import annotations

import torch
from torch import nn

from reformer_models.config import ReformerConfig
from reformer_models.errors import InputShapeError
from reformer_models.layers.embeddings import ReformerEmbeddings
from reformer_models.layers.hashing import BucketSource
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
        padding = self._padding(length)
        shape = input_ids.shape
        ids = self._padded(input_ids, shape, padding, self.config.pad_token_id)
        mask = self._padded(attention_mask, shape, padding, 0) != 0
        return ids, mask

    def _padded(
        self, tokens: torch.Tensor, shape: torch.Size, padding: int, value: int
    ) -> torch.Tensor:
        """`[batch, length]` (`shape`) -> `[batch, length + padding]`, with `value` at the end.

        An exported graph appends the largest possible padding and cuts it: ONNX Runtime's CUDA
        provider has no `Pad` for integers, and not every runtime accepts tensors without elements.
        """
        if not torch.compiler.is_exporting():
            return nn.functional.pad(tokens, (0, padding), value=value)
        batch, length = shape
        most = self.config.chunk_multiple - 1
        if most == 0:
            return tokens
        end = tokens.new_full((1,), value).expand(batch, most)
        torch._check(padding <= most)
        return torch.cat([tokens, end], dim=1).narrow(1, 0, length + padding)

    def _padding(self, length: int) -> int:
        """The number of tokens to add, up to `config.padded_length(length)` tokens.

        An exported graph computes this number at run time: otherwise every later shape would
        contain the formula of the traced length.
        """
        if not torch.compiler.is_exporting():
            return self.config.padded_length(length) - length
        multiple, shortest = self.config.chunk_multiple, self.config.min_chunk_length
        before_last = torch.scalar_tensor(length - 1, dtype=torch.int64)
        # No padding at all up to the smallest chunk length: `beyond` is 0 there, otherwise 1.
        # `minimum`, not `clamp`: with a `clamp` without a lower bound, ONNX Runtime's CUDA provider
        # computes this number, and all later shapes, on the GPU.
        beyond = torch.minimum(before_last // shortest, torch.scalar_tensor(1, dtype=torch.int64))
        to_multiple = (multiple - 1) - before_last % multiple
        padding: int = (beyond * to_multiple).item()  # type: ignore[assignment]
        torch._check(padding >= 0)
        return padding
