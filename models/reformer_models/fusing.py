"""Fuses the linear layers of a model with adjacent operations, for inference on CPUs."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

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
from reformer_models.layers.reversible import ReversibleLayer
from reformer_models.layers.task_model import TaskModel

Model = TypeVar("Model", bound=TaskModel)

_TYPES = (torch.float32, torch.float16)
"""The types that the kernels compute in."""


def fuse_linear(model: Model) -> Model:
    """The same model with fused layers, for inference only; `model` does not change.

    The result shares all tensors with `model`, except the weights of fused layers. Not fused are
    linear layers with a weight whose sizes are not multiples of 16, the projections of an attention
    that is not ours, a feed-forward that is gated or whose activation is not in
    `layers.fused.ACTIVATIONS`, layers after a norm that is no layer norm, and models in bf16, which
    no CPU kernel computes in.
    """
    if model.dtype not in _TYPES:
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    fused = copy.deepcopy(model, shared)
    for layer in list(fused.modules()):
        if isinstance(layer, ReversibleLayer):
            layer.attention = _attention(layer.attention)
            layer.feed_forward = cast(ReformerFeedForward, _feed_forward(layer.feed_forward))
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


def _feed_forward(module: ReformerFeedForward) -> nn.Module:
    norm = module.layer_norm
    if module.dense.gated or not isinstance(norm, nn.LayerNorm):
        return module
    if module.hidden_act not in ACTIVATIONS:
        return module
    up: nn.Module = module.dense.dense
    down: nn.Module = module.output.dense
    if fits_together(up, down):
        return FusedFeedForward(norm, up, down, ACTIVATIONS[module.hidden_act])
    return module
