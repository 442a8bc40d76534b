"""Decoders of small models, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reformer_export.generation.generator import Generator, open_generator

from ..tools.model_fixtures import Fixtures

WITH_PAST = "text-generation-with-past"


@pytest.fixture(scope="session")
def generators(fixtures: Fixtures) -> Iterator[dict[str, Generator]]:
    """The small model in ONNX Runtime, "native" and "portable", and in TorchScript."""
    artifact = fixtures.decoder()
    made = {ops: open_generator(artifact, ops=ops, threads=1) for ops in ("native", "portable")}
    for ops in ("native", "portable"):
        script = fixtures.generating_script(ops=ops)
        made[f"torchscript-{ops}"] = open_generator(script, runtime="torchscript")
    yield made
    for generator in made.values():
        generator.close()


@pytest.fixture(scope="session")
def generator(generators: dict[str, Generator]) -> Generator:
    """The generator in ONNX Runtime with native operators."""
    return generators["native"]
