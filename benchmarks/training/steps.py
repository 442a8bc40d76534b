"""Training steps to measure: our model, Hugging Face's model, and our model with full attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.allocations import peak_allocated
from reformer_export.bench.full_attention import attend_fully
from reformer_export.host.optional import require
from reformer_export.source import ReformerConfig, create_model, language_model_loss

OURS, STORING, HF, FULL = "ours", "storing", "hf", "full"

LABELS = {
    OURS: "reformer-export",
    STORING: "reformer-export, activations stored",
    HF: "Hugging Face",
    FULL: "full attention (torch SDPA), reversible",
}
"""Labels of the contenders."""

_SHAPE = ReformerConfig(
    attn_layers=("local", "lsh") * 3,
    hidden_size=256,
    num_attention_heads=2,
    attention_head_size=64,
    feed_forward_size=512,
    axial_pos_embds_dim=(64, 192),
    vocab_size=320,
    is_decoder=True,
    hash_seed=0,
)


def config_for(length: int, *, layers: int = 6, dropout: float = 0.0) -> ReformerConfig:
    """The crime-and-punishment shape for sequences of exactly `length` tokens, a power of two.

    With axial positions, Transformers trains only at the length of their grid. `num_buckets` has
    the values that Transformers chooses. `dropout` applies to hidden states and to the
    probabilities of local layers. It is 0.05 in the published config, which has no dropout for the
    probabilities of LSH layers.
    """
    first = 1 << (length.bit_length() - 1) // 2
    config = replace(
        _SHAPE,
        attn_layers=("local", "lsh") * (layers // 2),
        axial_pos_shape=(first, length // first),
        max_position_embeddings=length,
        hidden_dropout_prob=dropout,
        local_attention_probs_dropout_prob=dropout,
        lsh_attention_probs_dropout_prob=0.0,
    )
    return config.pinned(sequence_length=length).config


class Step:
    """Loss and gradients of one sequence of random tokens.

    Args:
        who: one of `LABELS`.
        config: the config of the model, from `config_for`.
    """

    def __init__(self, who: str, config: ReformerConfig) -> None:
        import torch

        self.model: Any = _hugging_face(config) if who == HF else create_model(config)
        if who == FULL:
            attend_fully(self.model)
        if who == STORING:
            self.model.reformer.encoder.recompute = False
        shape, generator = (1, config.max_position_embeddings), torch.Generator().manual_seed(0)
        ids = torch.randint(config.vocab_size, shape, generator=generator)
        self._loss: Callable[[], torch.Tensor] = lambda: language_model_loss(self.model, ids)
        if who == HF:
            self._loss = lambda: self.model(input_ids=ids, labels=ids).loss

    def run(self) -> float:
        """Run the step; returns the loss."""
        self.model.zero_grad(set_to_none=True)
        loss = self._loss()
        loss.backward()
        return float(loss.detach())

    def activation_bytes(self) -> int:
        """Peak bytes of tensors during the step, without weights and their gradients."""
        self.model.zero_grad(set_to_none=True)
        peak = peak_allocated(self.run)
        gradients = (p.grad for p in self.model.parameters() if p.grad is not None)
        return peak - sum(gradient.nbytes for gradient in gradients)


def _hugging_face(config: ReformerConfig) -> Any:
    transformers = require("transformers", purpose="comparing with Hugging Face's training step")
    transformers.logging.set_verbosity_error()
    made = transformers.ReformerConfig(**config.to_hf())
    return transformers.ReformerModelWithLMHead(made).train()
