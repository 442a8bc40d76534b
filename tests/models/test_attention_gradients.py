"""Gradients of one attention layer equal those of Transformers; both compute the buckets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.reformer import modeling_reformer
from transformers.models.reformer.configuration_reformer import ReformerConfig as TheirConfig

from reformer_models.config import ReformerConfig
from reformer_models.layers import attention
from reformer_models.layers.hashing import draw_rotations

from .training import NO_DROPOUT

LAYER: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "attention_head_size": 8,
    "num_buckets": 8,
    "hash_seed": 0,
    "local_attn_chunk_length": 16,
    "lsh_attn_chunk_length": 16,
    "axial_pos_embds_dim": [8, 16],
    **NO_DROPOUT,
}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [16, 64])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Local", {"is_decoder": True}),
        ("Local", {"is_decoder": False, "local_num_chunks_after": 1}),
        ("LSH", {"is_decoder": True, "num_hashes": 1}),
        ("LSH", {"is_decoder": True, "num_hashes": 4}),
        ("LSH", {"is_decoder": False, "num_hashes": 2, "lsh_num_chunks_after": 1}),
    ],
)
def test_a_layer(kind: str, changes: dict[str, Any], length: int, padded: bool) -> None:
    """Compares the gradients of the hidden states and of every weight."""
    raw = {**LAYER, "attn_layers": [kind.lower()], **changes}
    torch.manual_seed(0)
    theirs = getattr(modeling_reformer, f"{kind}SelfAttention")(TheirConfig(**raw)).train()
    config = ReformerConfig.from_hf({"model_type": "reformer", **raw})
    arguments = [draw_rotations(config)] if kind == "LSH" else []
    ours = getattr(attention, f"{kind}SelfAttention")(config, *arguments).train()
    named = dict(theirs.named_parameters())
    ours.load_state_dict({name: named[name] for name, _ in ours.named_parameters()})

    hidden = torch.randn(2, length, LAYER["hidden_size"], requires_grad=True)
    mask = torch.ones(2, length, dtype=torch.bool)
    if padded:
        mask[1, length * 3 // 4 :] = False
    upstream = torch.randn(2, length, 16) * mask[..., None]

    def gradients(output: torch.Tensor, layer: torch.nn.Module) -> list[torch.Tensor]:
        leaves = [hidden, *(parameter for _, parameter in sorted(layer.named_parameters()))]
        return list(torch.autograd.grad(output, leaves, upstream))

    output = theirs(hidden, attention_mask=mask if padded else None).hidden_states
    expected = gradients(output, theirs)
    found = gradients(ours(hidden, mask, None), ours)
    assert len(found) == len(expected) == (3 if kind == "LSH" else 4)
    for gradient, wanted in zip(found, expected, strict=True):
        assert wanted.abs().max() > 0
        torch.testing.assert_close(
            gradient, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max())
        )
