"""When training takes native kernels for what lies beside attention.

What is exported or run in eval mode never does: there torch's own operators stand.
"""

from __future__ import annotations

import torch

from reformer_ops.core.native import native_status

_FEATURES = 16
"""What numbers of features must be a multiple of."""

# Multiply-adds of a product below which there is nothing to gain.
_SMALLEST = 2**20


def runs_natively(*tensors: torch.Tensor) -> bool:
    """True if native kernels that know fp32 alone, and no tracing, can work on these."""
    return (
        all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # which chooses by itself
        and native_status("torch").available
    )


def serves(input: torch.Tensor, *weights: torch.Tensor) -> bool:
    """True if native kernels multiply `input` with the transposes of these, and gain by it."""
    return (
        all(weight.shape[1] % _FEATURES == 0 for weight in weights)
        and input.shape[:-1].numel() * weights[0].numel() >= _SMALLEST
        and runs_natively(input, *weights)
    )
