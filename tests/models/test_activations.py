"""The activation functions against those of Transformers, bit for bit."""

from __future__ import annotations

import pytest
import torch
from transformers.activations import ACT2FN

from reformer_models.config.activation_names import ACTIVATION_NAMES
from reformer_models.errors import ConfigError
from reformer_models.layers.activations import activation

# These have weights, for which a Reformer's feed-forward layer has no place.
LEARNED = {"prelu", "xielu"}

NAMES = sorted(ACTIVATION_NAMES)


def inputs(dtype: torch.dtype) -> torch.Tensor:
    """Numbers of every important size: dense around 0, tails, extremes, infinities and NaN."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1000, generator=generator)
    edges = torch.tensor([0.0, -0.0, 3.0, -3.0, 6.0, 10.0, torch.inf, -torch.inf, torch.nan])
    limits = torch.finfo(dtype)
    extremes = torch.tensor([limits.max, limits.min, limits.tiny, -limits.tiny])
    return torch.cat([normal, 4 * normal, 30 * normal, edges, extremes]).to(dtype)


def test_every_activation_without_weights_is_there() -> None:
    assert set(ACT2FN) - LEARNED == ACTIVATION_NAMES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_as_transformers(name: str, dtype: torch.dtype) -> None:
    x = inputs(dtype)
    before = x.clone()
    result = activation(name)(x)
    assert result.dtype == dtype
    torch.testing.assert_close(result, ACT2FN[name](x), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(x, before, rtol=0, atol=0, equal_nan=True)


def test_all_can_be_exported() -> None:
    class All(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [activation(name)(x) for name in NAMES]

    x = inputs(torch.float32)
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(All(), (x[:8, None],), dynamic_shapes={"x": {0: rows}})
    exported = program.module()(x[:, None])
    torch.testing.assert_close(exported, All()(x[:, None]), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["swiglu", "prelu", "Tensor", "activation", "math"])
def test_no_such_activation(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no activation function '{name}'.*gelu_new"):
        activation(name)
