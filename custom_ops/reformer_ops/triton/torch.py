"""Helpers for the Triton kernels on torch tensors, which `torch.ops.reformer` runs on CUDA."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

_NO_GPU = 80
"""Target whose tile sizes the interpreter uses."""


def target_of(tensor: torch.Tensor) -> int:
    """The compute capability of a tensor's GPU: 80 for sm_80."""
    if not tensor.is_cuda:
        return _NO_GPU
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


def type_of(tensor: torch.Tensor) -> str:
    """The name of a tensor's type: "float16"."""
    return str(tensor.dtype).removeprefix("torch.")


def on_device_of(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """Make the tensor's device current, because Triton launches on the current device."""
    return torch.cuda.device_of(tensor)


def delta_of(output: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """`gradient . output` of each query in fp32, `[batch, heads, length]`."""
    products = output.to(torch.float32) * gradient
    return products.sum(dim=-1).transpose(1, 2).contiguous()


def as_bytes(mask: torch.Tensor) -> torch.Tensor:
    """A mask in the layout of the kernels: one byte for each token."""
    return mask.contiguous().view(torch.uint8)
