"""Layers besides attention that have training kernels, run by these kernels and by plain torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from reformer_ops.core.dropout_masks import draw_seed, factors
from reformer_ops.core.native import load_into_torch
from reformer_ops.training.dropout.torch_op import dropout
from reformer_ops.training.feed_forward.torch_op import (
    FeedForwardWeights,
    feed_forward,
    feed_forward_with_gradients,
)
from reformer_ops.training.linear.torch_op import linear
from reformer_ops.training.projections.torch_op import projections

load_into_torch()

Tensors = list[torch.Tensor]

EPSILON = 1e-6

# Sizes near multiples of register tiles (6 rows), blocks (96 rows), spans (2048 rows), panels (64,
# 16 or 8 columns) and groups of sums (512).
LINEARS = (
    (1, 16, 1),
    (5, 16, 3),
    (97, 48, 70),
    (95, 80, 64),
    (200, 64, 258),
    (2100, 32, 33),
    (64, 16, 600),
)
PROJECTIONS = ((1, 16, 5, 1), (97, 48, 24, 3), (200, 80, 64, 2), (2100, 32, 16, 3))
FEED_FORWARDS = ((1, 16, 16), (95, 48, 80), (97, 80, 48), (200, 64, 560), (2100, 32, 48))
DROPOUTS = ((1, 1), (5, 15), (70, 33), (200, 256))


def operands(*shapes: tuple[int, ...], seed: int = 0) -> Tensors:
    """Normally distributed tensors that require gradients."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def linear_operands(rows: int, in_features: int, out_features: int) -> Tensors:
    return operands((rows, in_features), (out_features, in_features))


def projections_operands(rows: int, hidden: int, width: int, count: int) -> Tensors:
    return operands((rows, hidden), (hidden,), (hidden,), *[(width, hidden)] * count)


def feed_forward_operands(rows: int, hidden: int, inner: int) -> Tensors:
    return operands(
        (rows, hidden), (hidden,), (hidden,), (inner, hidden), (inner,), (hidden, inner), (hidden,)
    )


def by_kernel(what: str, tensors: Sequence[torch.Tensor], share: float = 0.0) -> Tensors:
    """The outputs of our kernel for "linear", "projections", "feed_forward" or "dropout"."""
    first, *others = tensors
    if what == "linear":
        return [linear(first, *others)]
    if what == "projections":
        norm_weight, norm_bias, *weights = others
        return list(projections(first, norm_weight, norm_bias, weights, epsilon=EPSILON))
    if what == "dropout":
        return [dropout(first, share)]
    weights = FeedForwardWeights(*others)
    return [feed_forward(first, weights, epsilon=EPSILON, dropout=share)]


def by_torch(what: str, tensors: Sequence[torch.Tensor], share: float = 0.0) -> Tensors:
    """The same outputs by torch's own operators, in the type of `tensors`."""
    first, *others = tensors
    seed = draw_seed(share, first.device)
    if what == "linear":
        return [functional.linear(first, *others)]
    if what == "dropout":
        return [dropped(first, seed, share)]
    norm_weight, norm_bias, *weights = others
    normed = functional.layer_norm(first, first.shape[-1:], norm_weight, norm_bias, EPSILON)
    if what == "projections":
        return [functional.linear(normed, weight) for weight in weights]
    up_weight, up_bias, down_weight, down_bias = weights
    up = dropped(functional.linear(normed, up_weight, up_bias), seed, share)
    down = functional.linear(up.relu(), down_weight, down_bias)
    return [dropped(down, seed, share, first_row=len(down))]


def dropped(
    x: torch.Tensor, seed: torch.Tensor, share: float, *, first_row: int = 0
) -> torch.Tensor:
    if not share:
        return x
    rows, columns = (torch.arange(size) for size in x.shape)
    return x * factors(seed, rows[:, None] + first_row, columns, share, x.dtype)


def with_gradients(
    function: Callable[..., Tensors],
    what: str,
    tensors: Sequence[torch.Tensor],
    share: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Tensors:
    """The outputs, then the gradients of all operands for random gradients of the outputs."""
    torch.manual_seed(1)
    tensors = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
    outputs = function(what, tensors, share)
    generator = torch.Generator().manual_seed(2)
    gradients = [torch.randn(o.shape, generator=generator).to(dtype) for o in outputs]
    found = torch.autograd.grad(outputs, tensors, gradients)
    return [*(output.detach() for output in outputs), *found]


def cases() -> list[tuple[str, tuple[int, ...], float]]:
    """The cases: the name of the layer, its sizes, and the share that is dropped."""
    return [
        *(("linear", sizes, 0.0) for sizes in LINEARS),
        *(("projections", sizes, 0.0) for sizes in PROJECTIONS),
        *(("feed_forward", sizes, share) for sizes in FEED_FORWARDS for share in (0.0, 0.1)),
        *(("dropout", sizes, share) for sizes in DROPOUTS for share in (0.0, 0.1)),
    ]


def case_operands(what: str, sizes: tuple[int, ...]) -> Tensors:
    makers: dict[str, Any] = {
        "linear": linear_operands,
        "projections": projections_operands,
        "feed_forward": feed_forward_operands,
        "dropout": lambda *shape: operands(shape),
    }
    result: Tensors = makers[what](*sizes)
    return result


def run_case(what: str, sizes: tuple[int, ...], share: float) -> Tensors:
    """The outputs and gradients by the kernels of this process."""
    return with_gradients(by_kernel, what, case_operands(what, sizes), share)


def feed_forward_at_once(sizes: tuple[int, ...], share: float) -> Tensors:
    """`run_case` of a feed-forward, by the kernel that returns output and gradients together."""
    input, *weights = (tensor.detach() for tensor in case_operands("feed_forward", sizes))
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(input.shape, generator=generator)
    output, of_input, of_weights = feed_forward_with_gradients(
        input, FeedForwardWeights(*weights), gradient, epsilon=EPSILON, dropout=share
    )
    return [output, of_input, *of_weights]
