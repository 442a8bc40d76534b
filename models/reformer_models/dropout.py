"""Dropout that is not there when it does nothing."""

from __future__ import annotations

import torch
from torch import nn


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, which leaves no node in the graph of a model that is exported."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """A tensor of any shape -> the same, in train mode with a share `p` of zeros."""
        return super().forward(input) if self.training and self.p else input
