"""One artifact with every format that this machine can make; shared, because compiling is slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from reformer_export import to_aoti, to_onnx, to_torchscript
from reformer_export.artifact import Artifact

from ...tools.model_fixtures import TINY, Fixtures

TASK = "text-generation"
WITH_PAST = f"{TASK}-with-past"


@pytest.fixture(scope="session")
def source(fixtures: Fixtures) -> Path:
    return fixtures.checkpoint(TASK, TINY)


@pytest.fixture(scope="session")
def artifact(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """ONNX, TorchScript and machine code of one model, in this order; the first two generate."""
    out = tmp_path_factory.mktemp("formats") / "artifact"
    to_onnx(source, out, task=WITH_PAST, verify=False)
    to_torchscript(source, out, task=WITH_PAST, verify=False)
    return to_aoti(source, out)


@pytest.fixture(scope="session")
def portable(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same model in TorchScript, without our operators."""
    out = tmp_path_factory.mktemp("formats") / "portable"
    return to_torchscript(source, out, task=WITH_PAST, verify=False, ops="portable")
