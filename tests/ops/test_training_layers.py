"""Linear layers, norms and feed-forward in training: precision as in torch, for any threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reformer_ops.core.native import native_status

from .isa_libraries import VARIABLE, isa_libraries
from .torch_process import call_in
from .training_layers import (
    FEED_FORWARDS,
    by_kernel,
    by_torch,
    case_operands,
    cases,
    feed_forward_at_once,
    run_case,
    with_gradients,
)

CASES = cases()
NAMES = [f"{what}-{'x'.join(map(str, sizes))}-{share}" for what, sizes, share in CASES]

pytestmark = pytest.mark.skipif(
    not native_status("torch").available, reason="torch has no native operators here"
)


def assert_as_precise(found: list[torch.Tensor], what: str, sizes: Any, share: float) -> None:
    """Assert that errors are at most twice those of torch in fp32, plus a few steps of fp32."""
    tensors = case_operands(what, sizes)
    plain = with_gradients(by_torch, what, tensors, share)
    exact = with_gradients(by_torch, what, tensors, share, torch.float64)
    for ours, theirs, truth in zip(found, plain, exact, strict=True):
        assert ours.dtype == torch.float32
        error, usual = ((x - truth).abs().max() for x in (ours, theirs))
        assert error <= 2 * usual + 1e-6 * truth.abs().max()


@pytest.mark.parametrize(("what", "sizes", "share"), CASES, ids=NAMES)
def test_as_precise_as_torch(what: str, sizes: tuple[int, ...], share: float) -> None:
    assert_as_precise(run_case(what, sizes, share), what, sizes, share)


@pytest.mark.parametrize("isa", isa_libraries())
def test_on_every_instruction_set(isa: str) -> None:
    for what, sizes, share in CASES:
        found = call_in(
            (("REFORMER_OPS", "native"), (VARIABLE, isa)),
            "tests.ops.training_layers:run_case",
            what,
            sizes,
            share,
        )
        assert_as_precise(found, what, sizes, share)


@pytest.mark.parametrize(("what", "sizes", "share"), CASES, ids=NAMES)
@pytest.mark.usefixtures("torch_threads")
def test_the_same_on_any_threads(what: str, sizes: tuple[int, ...], share: float) -> None:
    torch.set_num_threads(1)
    expected = run_case(what, sizes, share)
    for count in (2, 5):
        torch.set_num_threads(count)
        found = run_case(what, sizes, share)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("sizes", FEED_FORWARDS)
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_feed_forward_at_once(sizes: tuple[int, ...], share: float) -> None:
    expected = run_case("feed_forward", sizes, share)
    found = feed_forward_at_once(sizes, share)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("what", ["linear", "projections", "feed_forward"])
def test_what_is_not_a_number_stays_so(what: str) -> None:
    sizes = {"linear": (9, 32, 48), "projections": (9, 32, 48, 2), "feed_forward": (9, 32, 48)}
    tensors = [tensor.detach() for tensor in case_operands(what, sizes[what])]
    tensors[0][3, 5] = torch.nan
    for output in by_kernel(what, tensors):
        assert output[3].isnan().all()
        assert not output[[0, 1, 2, 4, 5, 6, 7, 8]].isnan().any()


def test_rows_may_be_of_any_shape_and_layout() -> None:
    flat, weight = case_operands("linear", (30, 32, 48))
    wide = flat.detach().view(5, 6, 32).transpose(0, 1)
    (found,) = by_kernel("linear", [wide, weight])
    assert found.shape == (6, 5, 48)
    torch.testing.assert_close(found, torch.nn.functional.linear(wide, weight))


def test_gradients_that_nobody_wants() -> None:
    input, weight = case_operands("linear", (30, 32, 48))
    (output,) = by_kernel("linear", [input.detach(), weight])
    (found,) = torch.autograd.grad(output.sum(), [weight])
    torch.testing.assert_close(found, input.detach().sum(0).expand_as(weight))


@pytest.mark.parametrize(
    ("operator", "arguments", "message"),
    [
        ("linear", [(4, 8), (4, 8)], "linear takes in_features that are a multiple of 16; got 8"),
        ("linear", [(4, 16), (4, 32)], r"weight as \[out_features, in_features\] with in_features"),
        ("linear", [(16,), (4, 16)], r"linear takes input as \[rows, in_features\]; got shape"),
        ("linear", [(0, 16), (4, 16)], "with no axis empty"),
        ("linear_input_gradient", [(4, 3), (4, 16)], "linear_input_gradient takes weight as"),
        ("linear_weight_gradient", [(4, 3), (5, 16)], "linear_weight_gradient takes input as"),
    ],
)
def test_what_is_refused(operator: str, arguments: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(torch.ops.reformer, operator)(*map(torch.zeros, arguments))


def test_what_is_refused_of_whole_halves() -> None:
    ops, seed = torch.ops.reformer, torch.zeros((), dtype=torch.int64)
    x, norm, weight = torch.zeros(4, 8), torch.zeros(8), torch.zeros(8, 8)
    with pytest.raises(ValueError, match="projections takes a hidden size that is a multiple of"):
        ops.projections(x, norm, norm, [weight], 1e-6)
    with pytest.raises(ValueError, match="projections takes one or more weights; got none"):
        ops.projections(x, norm, norm, [], 1e-6)
    with pytest.raises(ValueError, match="takes as many gradients as weights, 1; got 0"):
        ops.projections_backward(x, norm, norm, [weight], [], 1e-6)
    with pytest.raises(ValueError, match="multiples of 16; got hidden 8, feed_forward 8"):
        ops.feed_forward(x, norm, norm, weight, norm, weight, norm, seed, 1e-6, 0.0)
    with pytest.raises(ValueError, match="takes float32 for input; got Double"):
        ops.dropout(x.double(), seed, 0.1)
    with pytest.raises(ValueError, match="takes dropout >= 0 and < 1; got 1"):
        ops.dropout(x, seed, 1.0)
