"""The backward pass of reversible layers gives the gradients of plain ones in constant memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.allocations import peak_allocated
from reformer_models.layers import attention
from reformer_models.layers.hashing import BucketTrace
from reformer_models.training.creating import create_model
from reformer_models.training.losses import language_model_loss
from reformer_ops.training import choice as training

from .reformers import token_ids
from .training import DROPOUT, FITTING, assert_close, loss_and_gradients, small_config

TOLERANCE = 2e-4
"""Activations recomputed by subtraction differ by rounding, and the layers are chained."""

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": DROPOUT,
    "new rotations every time": {"hash_seed": None, **DROPOUT},
    "feed-forward in pieces": {"chunk_size_feed_forward": 7, "chunk_size_lm_head": 9, **DROPOUT},
    "learned positions": {"axial_pos_embds": False, **DROPOUT},
    "one layer": {"attn_layers": ["lsh"]},
    "native layers": FITTING,
    "native layers, dropout": {**FITTING, **DROPOUT, "chunk_size_feed_forward": 7},
}


@pytest.fixture(autouse=True)
def small_layers_are_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_SMALLEST", 0)


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("length", [5, 60])
def test_gradients_are_those_of_plain_layers(changes: dict[str, Any], length: int) -> None:
    model = create_model(small_config(**changes))
    ids = token_ids(2, length, 40)
    mask = torch.ones_like(ids)
    mask[1, length * 2 // 3 :] = 0
    loss, found = loss_and_gradients(model, ids, attention_mask=mask)
    drawn = torch.rand(3)
    model.reformer.encoder.recompute = False
    plain_loss, expected = loss_and_gradients(model, ids, attention_mask=mask)
    assert loss == plain_loss
    assert torch.equal(drawn, torch.rand(3)), "the backward pass moved the global generator"
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert expected.keys() == trained
    assert_close(found, expected, TOLERANCE)


def test_the_backward_pass_does_not_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    original = attention.lsh_bucket

    def counting(query: torch.Tensor, *others: Any) -> torch.Tensor:
        hashed.append(query.shape)
        return original(query, *others)

    monkeypatch.setattr(attention, "lsh_bucket", counting)
    loss = language_model_loss(create_model(small_config()), token_ids(1, 40, 40))
    assert len(hashed) == 2, "two of the four layers hash"
    loss.backward()
    assert len(hashed) == 2


def test_forced_buckets_are_those_of_the_backward_pass() -> None:
    model = create_model(small_config())
    ids = token_ids(1, 60, 40)
    gradients = []
    for recompute in (True, False):
        model.reformer.encoder.recompute = recompute
        model.zero_grad()
        forced = [torch.zeros(1, 2, 2, 64, dtype=torch.int32)] * 2
        trace = BucketTrace(forced)
        model(ids, None, trace)["logits"].square().mean().backward()
        assert len(trace.computed) == 2
        named = model.named_parameters()
        gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})
    assert_close(*gradients, TOLERANCE)


@pytest.mark.parametrize("changes", [{}, {**FITTING, **DROPOUT}], ids=["torch", "native"])
def test_frozen_weights_get_no_gradient_and_stop_none(changes: dict[str, Any]) -> None:
    model = create_model(small_config(**changes))
    _, expected = loss_and_gradients(model, token_ids(1, 40, 40))
    frozen = "reformer.encoder.layers.1"
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not name.startswith(frozen))
    _, found = loss_and_gradients(model, token_ids(1, 40, 40))
    assert_close(found, {n: g for n, g in expected.items() if not n.startswith(frozen)}, 0)


def test_gradients_by_autograd_grad() -> None:
    model = create_model(small_config())
    _, expected = loss_and_gradients(model, token_ids(1, 40, 40))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = language_model_loss(model, token_ids(1, 40, 40))
    found = torch.autograd.grad(loss, list(parameters.values()))
    assert_close(dict(zip(parameters, found, strict=True)), expected, 0)


def test_in_bfloat16_by_autocast() -> None:
    model = create_model(small_config())
    ids = token_ids(2, 60, 40)
    _, exact = loss_and_gradients(model, ids)
    gradients = []
    for recompute in (True, False):
        model.reformer.encoder.recompute = recompute
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = language_model_loss(model, ids)
        loss.backward()
        named = model.named_parameters()
        gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})
    # bfloat16 puts some queries into other buckets than fp32, so fp32 gradients are no reference.
    assert_close(*gradients, 0.05)
    assert gradients[0].keys() == exact.keys()
    assert all(gradient.dtype == torch.float32 for gradient in gradients[0].values())


def activations(layers: int, *, recompute: bool, length: int = 512) -> int:
    """The peak of allocated bytes in a training step, without the gradients of parameters."""
    shape = {"hidden_size": 128, "axial_pos_embds_dim": [32, 96], "attention_head_size": 32}
    positions = {"axial_pos_shape": [16, 32], "max_position_embeddings": 512}
    kinds = ["local", "lsh"] * (layers // 2)
    model = create_model(small_config(**shape, **positions, attn_layers=kinds))
    model.reformer.encoder.recompute = recompute
    ids = token_ids(2, length, 40)
    peak = peak_allocated(lambda: language_model_loss(model, ids).backward())
    return peak - sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)


def test_memory_does_not_grow_with_depth() -> None:
    # At least 4 layers: after its first layer, a backward pass holds streams and gradients twice.
    shallow, deep = (activations(layers, recompute=True) for layers in (4, 24))
    assert deep <= 1.05 * shallow
    shallow, deep = (activations(layers, recompute=False) for layers in (2, 24))
    assert deep >= 4 * shallow


def test_memory_grows_with_length_no_faster_than_length() -> None:
    short, long = (activations(4, recompute=True, length=length) for length in (128, 512))
    assert long <= 4.2 * short


@pytest.mark.slow
@pytest.mark.parametrize("how", ["model", "halves"])
def test_compiled(how: str) -> None:
    model = create_model(small_config())
    ids = token_ids(2, 60, 40)
    expected_loss, expected = loss_and_gradients(model, ids)
    if how == "model":
        model.reformer.compile()
    else:
        for layer in model.reformer.encoder.layers:
            layer.attention.compile()
            layer.feed_forward.compile()
    loss, found = loss_and_gradients(model, ids)
    torch.testing.assert_close(loss, expected_loss)
    assert_close(found, expected, 20 * TOLERANCE)  # compiled code rounds differently
