"""Checkpoints that Transformers saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import transformers

from .parity import Tally
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


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Iterator[Tally]:
    """Counts differences; `pytest -rP` shows the sum, and a JUnit file holds it."""
    result = Tally()
    yield result
    record_property("parity", str(result))
    print(result)
    result.check()
