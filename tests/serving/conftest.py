"""A server of a small model, started once, and the runner and generator of the same artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reformer_export import open_generator, open_runner
from reformer_export.generation.generator import Generator
from reformer_export.runtimes.base import Runner

from ..tools.model_fixtures import Fixtures
from .served import SERVED, Server, serving


@pytest.fixture(scope="session")
def artifact(fixtures: Fixtures) -> Path:
    return fixtures.decoder(SERVED).path


@pytest.fixture(scope="session")
def server(artifact: Path) -> Iterator[Server]:
    with serving(artifact, "--name", "small", "--max-tokens", 5000, "--max-body", 1) as started:
        yield started


@pytest.fixture(scope="session")
def runner(artifact: Path) -> Iterator[Runner]:
    opened = open_runner(artifact, threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def generator(artifact: Path) -> Iterator[Generator]:
    opened = open_generator(artifact, threads=1)
    yield opened
    opened.close()
