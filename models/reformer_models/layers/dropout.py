"""Dropout that leaves no node in an exported graph."""

from __future__ import annotations

import torch
from torch import nn

from reformer_ops.training.choice import runs_natively
from reformer_ops.training.dropout import torch_op


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, which leaves no node in the graph of a model that is exported.

    On the CPU the native kernel draws the mask, many times as fast and without storing it.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """A tensor of any shape -> the same, in train mode with a share `p` of zeros."""
        if not self.training or self.p == 0:
            return input
        if not self.inplace and input.dim() > 1 and self.p < 1 and runs_natively(input):
            return torch_op.dropout(input, self.p)
        return super().forward(input)
