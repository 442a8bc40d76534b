"""Reads checkpoints of reformer-pytorch: the arguments of a model, and its tensors."""

from reformer_models.checkpoints.sources.lucidrains.source import LUCIDRAINS

__all__ = ["LUCIDRAINS"]
