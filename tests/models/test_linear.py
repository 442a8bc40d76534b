"""Which layers train with the native kernels, and which use torch's own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from reformer_models.layers.linear import Linear
from reformer_models.training.creating import create_model
from reformer_models.training.losses import language_model_loss
from reformer_ops import native_status
from reformer_ops.training import choice as training

from ..tools.operator_calls import Calls
from .reformers import token_ids
from .training import DROPOUT, FITTING, assert_close, loss_and_gradients, small_config

pytestmark = pytest.mark.skipif(
    not native_status("torch").available, reason="torch has no native operators here"
)

OPERATORS = ("linear", "projections", "feed_forward", "dropout")


def calls_of(function: Any, *arguments: Any) -> dict[str, int]:
    """How often each of our operators runs."""
    with Calls() as calls:
        function(*arguments)
    return Counter(calls.names)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_torchs_layer(bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(256, 320, bias=bias)
    input = torch.randn(2, 70, 256, requires_grad=True)
    gradient = torch.randn(2, 70, 320)

    def results() -> list[torch.Tensor]:
        output = layer(input)
        return [output, *torch.autograd.grad(output, [input, *layer.parameters()], gradient)]

    with Calls() as calls:
        found = results()
    assert Counter(calls.names) == {
        "linear": 1,
        "linear_input_gradient": 1,
        "linear_weight_gradient": 1,
    }
    layer.eval()
    torch.testing.assert_close(found, results(), rtol=1e-4, atol=1e-4)


def test_where_torch_is_left_alone() -> None:
    layer, input = Linear(64, 64), torch.randn(1024, 64)
    assert not calls_of(layer.eval(), input)
    layer.train()
    assert not calls_of(layer, input[:10]), "there is nothing to gain"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not calls_of(layer, input)
    assert not calls_of(layer.double(), input.double())
    assert not calls_of(Linear(72, 64), torch.randn(1024, 72)), "no whole vectors"
    assert calls_of(layer.float(), input) == {"linear": 1}


@pytest.mark.parametrize("changes", [{}, DROPOUT], ids=["plain", "dropout"])
def test_every_layer_of_a_model(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_SMALLEST", 0)
    model = create_model(small_config(**FITTING, **changes))
    counts = calls_of(model, token_ids(2, 60, 40))
    assert counts["projections"] == counts["feed_forward"] == 4
    assert counts["linear"] == 5, "back from attention, and the head"
    assert ("dropout" in counts) == bool(changes)
    counts = calls_of(model.eval(), token_ids(2, 60, 40))
    assert not counts.keys() & set(OPERATORS)


def test_a_model_trains_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = token_ids(2, 60, 40)
    monkeypatch.setattr(training, "_SMALLEST", 2**62)
    loss, expected = loss_and_gradients(create_model(small_config(**FITTING)), ids)
    monkeypatch.setattr(training, "_SMALLEST", 0)
    found_loss, found = loss_and_gradients(create_model(small_config(**FITTING)), ids)
    torch.testing.assert_close(found_loss, loss)
    assert_close(found, expected, 2e-4)


def test_what_others_put_into_a_layer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_SMALLEST", 0)
    model = create_model(small_config(**FITTING))
    ids = token_ids(2, 60, 40)
    feed_forward = model.reformer.encoder.layers[0].feed_forward
    attention = model.reformer.encoder.layers[1].attention
    seen = []
    feed_forward.dense.dense.register_forward_hook(lambda *_: seen.append("up"))
    attention.layer_norm.register_forward_pre_hook(lambda *_: seen.append("norm"))
    counts = calls_of(model, ids)
    assert seen == ["up", "norm"]
    assert counts["projections"] == counts["feed_forward"] == 3

    class Doubled(torch.nn.Module):
        def __init__(self, layer: torch.nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * self.layer(input)

    before = model(ids)["logits"]
    third = model.reformer.encoder.layers[2]
    third.feed_forward.output.dense = Doubled(third.feed_forward.output.dense)
    assert calls_of(model, ids)["feed_forward"] == 2
    without = model(ids)["logits"]
    assert not torch.allclose(before, without)
    third.attention.self_attention.value = Doubled(third.attention.self_attention.value)
    assert calls_of(model, ids)["projections"] == 2
    assert not torch.allclose(without, model(ids)["logits"])
    language_model_loss(model, ids).backward()
    assert len(seen) > 2, "hooks of the backward pass' own forward pass"
