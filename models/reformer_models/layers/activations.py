"""The activation functions a checkpoint can name in `hidden_act`, as pure functions of a tensor.

Each function has its name in Transformers' ACT2FN and gives the same bits for the same input: the
order of operations is part of the contract, because it changes results in fp16 and bf16. They take
a tensor of any shape and floating dtype and return one of the same shape and dtype. They have no
state and do not branch on values, so `torch.export` can trace them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from reformer_models.config.activation_names import ACTIVATION_NAMES
from reformer_models.errors import ConfigError

Activation = Callable[[Tensor], Tensor]


def activation(name: str) -> Activation:
    """The function called `name` in a checkpoint's `hidden_act`.

    Raises:
        ConfigError: `name` is not one of `ACTIVATION_NAMES`.
    """
    if name not in ACTIVATION_NAMES:
        names = ", ".join(sorted(ACTIVATION_NAMES))
        raise ConfigError(f"there is no activation function {name!r}; these exist: {names}")
    return cast(Activation, globals()[name])


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return functional.gelu(x)


def gelu_python(x: Tensor) -> Tensor:
    """`gelu` as separate operations: it rounds differently from the fused one."""
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def gelu_10(x: Tensor) -> Tensor:
    """`gelu` clipped to [-10, 10], for quantization (arXiv 2004.09602)."""
    return torch.clip(gelu(x), -10, 10)


def gelu_pytorch_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of `gelu`, fused."""
    return functional.gelu(x, approximate="tanh")


def gelu_new(x: Tensor) -> Tensor:
    """The tanh approximation of `gelu`, not fused: it rounds differently from the fused one."""
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3))))


gelu_accurate = gelu_new
gelu_python_tanh = gelu_new


def gelu_fast(x: Tensor) -> Tensor:
    """The tanh approximation of `gelu` with sqrt(2 / pi) cut to ten digits."""
    return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of `gelu`."""
    return x * torch.sigmoid(1.702 * x)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return functional.silu(x)


swish = silu


def hardswish(x: Tensor) -> Tensor:
    """x * relu6(x + 3) / 6 (arXiv 1905.02244)."""
    return functional.hardswish(x)


def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x)) (arXiv 1908.08681)."""
    return functional.mish(x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return functional.relu(x)


def relu2(x: Tensor) -> Tensor:
    """The square of max(x, 0) (arXiv 2109.08668)."""
    return torch.square(functional.relu(x))


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return functional.relu6(x)


def leaky_relu(x: Tensor) -> Tensor:
    """x if it is positive, else 0.01 * x."""
    return functional.leaky_relu(x)


def laplace(x: Tensor) -> Tensor:
    """A normal distribution function with MEGA's mean and deviation (arXiv 2209.10655)."""
    mean, deviation = 0.707107, 0.282095
    return 0.5 * (1.0 + torch.erf((x - mean).div(deviation * math.sqrt(2.0))))


def linear(x: Tensor) -> Tensor:
    """x itself."""
    return x


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return torch.tanh(x)


def sqrtsoftplus(x: Tensor) -> Tensor:
    """The square root of log(1 + exp(x))."""
    return functional.softplus(x).sqrt()
