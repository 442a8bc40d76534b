"""What several tests of exporters share."""

from __future__ import annotations

from pathlib import Path

import pytest

from reformer_export import to_onnx, to_web
from reformer_export.exporters.web.onnxruntime_web import cached_package

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
