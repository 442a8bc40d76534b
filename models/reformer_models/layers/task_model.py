"""What the models of all tasks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from reformer_models.config import ModelConfig

Outputs = dict[str, torch.Tensor]
Axes = dict[str, tuple[str | int, ...]]


class TaskModel(nn.Module, ABC):
    """A model for a task, with named outputs.

    Attributes:
        config: the configuration that the model was built from.
        last_only: True if it returns only the outputs of the last token of each row.
    """

    config: ModelConfig
    last_only = False

    @property
    @abstractmethod
    def output_axes(self) -> Axes:
        """The axes of each output by name: a name if dynamic, else the size."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
