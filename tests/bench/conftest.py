"""An artifact and the checkpoint that it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from reformer_export.artifact import Artifact

from ..tools.model_fixtures import Fixtures


@pytest.fixture(scope="package")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return Fixtures(tmp_path_factory.mktemp("bench")).artifact()


@pytest.fixture
def path(artifact: Artifact) -> Path:
    return artifact.path
