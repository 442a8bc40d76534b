"""The loss of a language model, without storing the logits of a whole sequence."""

from __future__ import annotations

import torch
from torch.nn import functional

from reformer_models.errors import ConfigError, InputShapeError
from reformer_models.layers.feed_forward import in_chunks
from reformer_models.layers.heads import FillMask, ReformerForTask, TextGeneration

IGNORED = -100
"""The label of a position that the loss ignores, as everywhere in PyTorch."""


def language_model_loss(
    model: ReformerForTask,
    input_ids: torch.Tensor,
    labels: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    *,
    reduction: str = "mean",
) -> torch.Tensor:
    """Cross entropy of the labels, in nats, as Hugging Face's language models compute it.

    Logits are computed for `chunk_size_lm_head` positions at a time (0: all at once). If gradients
    are needed, the backward pass computes them again.

    Args:
        model: a model for text-generation or fill-mask.
        input_ids: `[batch, length]` int64.
        labels: `[batch, length]` int64, `IGNORED` at positions without a label. In text-generation
            the next token is predicted: the labels are shifted here, and by default they are
            `input_ids` without padding. In fill-mask labels are required and are not shifted.
        attention_mask: `[batch, length]`, zero for padding.
        reduction: "mean" over the labels that are not ignored, their "sum", or "none" for
            `[batch, length]` (one position less in text-generation), 0 where ignored.

    Raises:
        ConfigError: another head, another reduction, or no labels for fill-mask.
        InputShapeError: the labels have another shape, or the model does not accept the length.
            Text-generation needs at least 2 tokens, because a single token has no next token.
    """
    if not isinstance(model, TextGeneration | FillMask):
        raise ConfigError(f"a language model's loss is not for {type(model).__name__}")
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f"reduction must be mean, sum or none, found {reduction!r}")
    if labels is None:
        if isinstance(model, FillMask):
            raise ConfigError("the loss of fill-mask needs labels: which tokens were masked")
        labels = input_ids
        if attention_mask is not None:
            labels = input_ids.masked_fill(attention_mask == 0, IGNORED)
    if labels.shape != input_ids.shape:
        raise InputShapeError(
            f"labels must be of the shape of input_ids, {list(input_ids.shape)}; "
            f"found {list(labels.shape)}"
        )
    hidden = model.reformer(input_ids, attention_mask)
    if isinstance(model, TextGeneration):
        if labels.shape[1] < 2:
            raise InputShapeError("predicting the next token takes at least 2 tokens; got 1")
        hidden, labels = hidden[:, :-1], labels[:, 1:]

    def losses_of(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = model.lm_head.logits(hidden).to(torch.float32).flatten(0, -2)
        losses = functional.cross_entropy(
            logits, labels.flatten(), reduction="none", ignore_index=IGNORED
        )
        return losses.view_as(labels)

    losses = in_chunks(losses_of, model.config.chunk_size_lm_head, hidden, labels)
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / (labels != IGNORED).sum()
