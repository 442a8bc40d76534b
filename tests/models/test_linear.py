"""Linear layers in train mode: the numbers and gradients of torch's own, by another library."""

from __future__ import annotations

import pytest
import torch

from reformer_models import linear as module
from reformer_models.linear import Linear

SHAPES = ((2, 900, 48, 64), (4096, 32, 48), (1, 70, 256, 320))


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes that oneDNN has multiplied."""
    seen: list[torch.Size] = []
    original = module._product

    def watched(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        seen.append(left.shape)
        return original(left, right, bias)

    monkeypatch.setattr(module, "_product", watched)
    return seen


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_as_precise_as_torch(
    shape: tuple[int, ...], bias: bool, products: list[torch.Size]
) -> None:
    torch.manual_seed(0)
    layer = Linear(*shape[-2:], bias=bias)
    input = torch.randn(shape[:-1], requires_grad=True)
    gradient = torch.randn(*shape[:-2], shape[-1])

    def results(layer: torch.nn.Module, input: torch.Tensor) -> list[torch.Tensor]:
        output = layer(input)
        wanted = [input, *layer.parameters()]
        return [output, *torch.autograd.grad(output, wanted, gradient.to(output.dtype))]

    found = results(layer, input)
    assert len(products) == 3, "forward, and the gradients of input and weight"
    plain = results(layer.eval(), input)
    assert len(products) == 3
    exact = results(layer.double(), input.double().detach().requires_grad_())
    for ours, theirs, truth in zip(found, plain, exact, strict=True):
        assert ours.dtype == torch.float32
        error, usual = ((x - truth).abs().max() for x in (ours, theirs))
        assert error <= 2 * usual + 1e-6 * truth.abs().max()


def test_where_torch_is_left_alone(products: list[torch.Size]) -> None:
    layer, input = Linear(64, 64), torch.randn(1024, 64)
    layer.eval()(input)
    layer.train()(input[:10])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(input).dtype == torch.bfloat16
    layer.double()(input.double())
    assert not products
    layer.float()(input)
    assert len(products) == 1
