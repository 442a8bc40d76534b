"""Linear layers: `torch.nn.Linear`, except in training on the CPU."""

from __future__ import annotations

import torch
from torch import nn

from reformer_ops.training.choice import serves
from reformer_ops.training.linear import torch_op


class Linear(nn.Linear):
    """`torch.nn.Linear`; in train mode it uses the native kernels if `serves` is true."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[.., in_features]` -> `[.., out_features]`."""
        return linear(input, self.weight, self.bias, training=self.training)


def is_plain(*modules: nn.Module) -> bool:
    """True if no module was replaced or hooked, so a fused kernel may bypass them.

    A fused kernel would ignore hooks, parametrizations and adapters that other code added.
    """
    return all(
        (type(module) is nn.LayerNorm or type(module).__module__.startswith(f"{__package__}."))
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
        for module in modules
    )


def linear(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, training: bool
) -> torch.Tensor:
    """`torch.nn.functional.linear`; with `training`, it uses native kernels if `serves`."""
    if not training or not serves(input, weight):
        return nn.functional.linear(input, weight, bias)
    product = torch_op.linear(input, weight)
    return product if bias is None else product + bias
