"""Checkpoints that Transformers saved. Our model has its names, so nothing is translated."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from reformer_models.checkpoints.sources.base import Described, Source
from reformer_models.config import ReformerConfig


def _describe(raw: Mapping[str, object], ignore_keys: Collection[str]) -> Described:
    config = ReformerConfig.from_hf(raw, ignore_keys=ignore_keys)
    architecture = config.architectures[0] if config.architectures else None
    return Described(config, architecture, translated=lambda tensors: tensors)


HUGGINGFACE: Final = Source("huggingface", "config.json", _describe)
