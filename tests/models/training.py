"""Helpers for the tests of training: a small config, and the gradients of a model's loss."""

from __future__ import annotations

from typing import Any

import torch

from reformer_models.config import ReformerConfig
from reformer_models.layers.heads import ReformerForTask
from reformer_models.training.losses import language_model_loss

from .reformers import SMALL

Gradients = dict[str, torch.Tensor]

NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
    "lsh_attention_probs_dropout_prob": 0.0,
}
DROPOUT = dict.fromkeys(NO_DROPOUT, 0.1)

FITTING = {
    "attention_head_size": 8,
    "axial_pos_embds_dim": [8, 24],
    "feed_forward_size": 48,
    "hidden_size": 32,
}
"""Sizes that native kernels support if `_SMALLEST` of `reformer_ops.training.choice` is 0."""


def small_config(**changes: Any) -> ReformerConfig:
    """`SMALL` with LSH chunks that divide its 128 positions, without dropout by default."""
    raw = {"model_type": "reformer", **SMALL, "lsh_attn_chunk_length": 8, **NO_DROPOUT, **changes}
    return ReformerConfig.from_hf(raw)


def loss_and_gradients(
    model: ReformerForTask, *arguments: Any, seed: int = 0, **options: Any
) -> tuple[torch.Tensor, Gradients]:
    """`language_model_loss` and its gradients, after `seed` is set as torch's global seed."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss = language_model_loss(model, *arguments, **options)
    loss.backward()
    named = model.named_parameters()
    return loss.detach(), {n: p.grad.clone() for n, p in named if p.grad is not None}


def assert_close(found: Gradients, expected: Gradients, tolerance: float) -> None:
    """Assert that the gradients agree, with errors relative to each one's largest magnitude."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        assert scale > 0, f"{name} has no gradient at all"
        error = (found[name] - gradient).abs().max() / scale
        assert error <= tolerance, f"{name} differs by {error:.1e}"
