"""Conditions under which training uses native kernels for layers other than attention.

Export and eval mode never use them: there torch's own operators run.
"""

from __future__ import annotations

import torch

from reformer_ops.core.native import native_status

_FEATURES = 16
"""Numbers of features must be a multiple of this."""

# For products with fewer multiply-adds the native kernels are not faster.
_SMALLEST = 2**20


def runs_natively(*tensors: torch.Tensor) -> bool:
    """True if the native kernels can run on these: fp32 on the CPU, no autocast, no tracing."""
    return (
        all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # the compiler chooses kernels itself
        and native_status("torch").available
    )


def serves(input: torch.Tensor, *weights: torch.Tensor) -> bool:
    """True if native kernels support the products of `input` with these weights and are faster."""
    return (
        all(weight.shape[1] % _FEATURES == 0 for weight in weights)
        and input.shape[:-1].numel() * weights[0].numel() >= _SMALLEST
        and runs_natively(input, *weights)
    )
