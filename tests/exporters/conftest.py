"""What several tests of exporters share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reformer_export import to_onnx, to_web
from reformer_export.exporters.web.onnxruntime_web import cached_package

from ..models.configs import SMALL
from ..tools.model_fixtures import Fixtures
from ..tools.tokenizer_fixtures import pieces

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def bible(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the trained byte model, for both engines."""
    folder = tmp_path_factory.mktemp("bible")
    to_onnx(
        ROOT / "examples/bible-reformer",
        folder / "artifact",
        task="text-generation-with-past",
        verify=False,
    )
    return to_web(
        folder / "artifact", folder / "page", webgpu=True, onnxruntime_web=cached_package()
    ).path


@pytest.fixture(scope="session")
def pieces_page(fixtures: Fixtures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small model that reads SentencePiece's pieces, with random weights."""
    pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pieces")
    config = SMALL | {"vocab_size": 302}
    shutil.copytree(fixtures.checkpoint("text-generation", config), folder / "checkpoint")
    (folder / "checkpoint/spiece.model").write_bytes(pieces("symbols"))
    to_onnx(
        folder / "checkpoint", folder / "artifact", task="text-generation-with-past", verify=False
    )
    return to_web(
        folder / "artifact", folder / "page", onnxruntime_web=cached_package(), verify=False
    ).path
