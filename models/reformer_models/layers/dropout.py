"""Dropout that leaves no node in an exported graph."""

from __future__ import annotations

import torch
from torch import nn

from reformer_ops.training.choice import runs_natively
from reformer_ops.training.dropout import torch_op


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, but it leaves no node in the graph of an exported model.

    On the CPU the native kernel draws the mask, many times faster and without storing it.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """A tensor of any shape -> the same; in train mode a share `p` of the values is zero."""
        if not self.training or self.p == 0:
            return input
        if not self.inplace and input.dim() > 1 and self.p < 1 and runs_natively(input):
            return torch_op.dropout(input, self.p)
        return super().forward(input)
