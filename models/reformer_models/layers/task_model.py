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
        last_only: True if it returns only the outputs of the last token of each row.
    """

    last_only = False

    @property
    @abstractmethod
    def model_config(self) -> ModelConfig:
        """The configuration that the model was built from."""

    @property
    @abstractmethod
    def output_axes(self) -> Axes:
        """The axes of each output by name: a name if dynamic, else the size."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
