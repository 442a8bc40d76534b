"""Checkpoints that Transformers saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from .saved_models import build, save_safetensors, save_sharded_safetensors


@pytest.fixture(scope="module")
def model() -> transformers.PreTrainedModel:
    result: transformers.PreTrainedModel = build()
    return result


@pytest.fixture
def folder(tmp_path: Path, model: transformers.PreTrainedModel) -> Path:
    """A checkpoint in one safetensors file."""
    path = tmp_path / "checkpoint"
    save_safetensors(path, model)
    return path


@pytest.fixture
def sharded(tmp_path: Path, model: transformers.PreTrainedModel) -> Path:
    """A checkpoint in many safetensors files."""
    path = tmp_path / "sharded"
    save_sharded_safetensors(path, model)
    return path
