"""A small corpus, the documents in it, and the artifact of a byte-level model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reformer_export.artifact import Artifact

from ...tools.model_fixtures import Fixtures
from ..served import SERVED

Corpus = tuple[Path, dict[str, str]]


@pytest.fixture(scope="session")
def model(fixtures: Fixtures) -> Artifact:
    return fixtures.decoder(SERVED)


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[[int], Corpus]:
    """Makes a corpus of JSON lines with some bad rows; returns the good documents by id."""

    def make(documents: int) -> Corpus:
        folder = tmp_path / "corpus"
        folder.mkdir()
        rng = np.random.default_rng(documents)
        good: dict[str, str] = {}
        for number in range(2):
            with (folder / f"{number}.jsonl").open("w") as file:
                for row in range(documents // 2):
                    length = int(np.exp(rng.uniform(0, np.log(600))))
                    name = f"{number}-{row}"
                    good[name] = bytes(rng.integers(32, 127, length, np.uint8)).decode()
                    file.write(json.dumps({"id": name, "text": good[name]}) + "\n")
                file.write("{\n")
        return folder, good

    return make
