"""Fuses the linear layers of a model with adjacent operations, for inference on CPUs."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from reformer_models.layers.attention import ReformerAttention, SelfAttention, SelfOutput
from reformer_models.layers.feed_forward import ReformerFeedForward
from reformer_models.layers.fused import (
    ACTIVATIONS,
    FusedAttention,
    FusedFeedForward,
    NormLinear,
    fits_panels,
    fits_together,
)
from reformer_models.layers.heads import ReformerForTask
from reformer_models.layers.reversible import ReversibleLayer

_TYPES = (torch.float32, torch.float16)
"""The types that the kernels compute in."""


def fuse_linear(model: ReformerForTask) -> ReformerForTask:
    """The same model with fused layers, for inference only; `model` does not change.

    The result shares all tensors with `model`, except the weights of fused layers. Not fused are
    linear layers with a weight whose sizes are not multiples of 16, the projections of an attention
    that is not ours, a feed-forward that is gated or whose activation is not in
    `layers.fused.ACTIVATIONS`, layers after a norm that is no layer norm, and models in bf16, which
    no CPU kernel computes in.
    """
    if model.reformer.encoder.layer_norm.weight.dtype not in _TYPES:
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    fused = copy.deepcopy(model, shared)
    for layer in fused.reformer.encoder.layers:
        layer.attention = _attention(cast(ReversibleLayer, layer).attention)
        feed_forward = cast(ReversibleLayer, layer).feed_forward
        layer.feed_forward = _feed_forward(feed_forward, model.config.hidden_act)
    return fused


def _attention(attention: ReformerAttention) -> ReformerAttention:
    layer, norm = attention.self_attention, attention.layer_norm
    if (
        isinstance(layer, SelfAttention)
        and isinstance(norm, nn.LayerNorm)
        and all(map(fits_panels, layer.projections))
    ):
        projections = layer.projections
        for name, child in list(layer.named_children()):
            if child in projections:
                setattr(layer, name, NormLinear(norm, cast(nn.Linear, child)))
        attention.layer_norm = nn.Identity()
    output = cast(SelfOutput, attention.output)
    return FusedAttention(attention) if fits_panels(output.dense) else attention


def _feed_forward(module: ReformerFeedForward, hidden_act: str) -> nn.Module:
    norm = module.layer_norm
    if module.dense.gated or hidden_act not in ACTIVATIONS or not isinstance(norm, nn.LayerNorm):
        return module
    up: nn.Module = module.dense.dense
    down: nn.Module = module.output.dense
    if fits_together(up, down):
        return FusedFeedForward(norm, up, down, ACTIVATIONS[hidden_act])
    return module
