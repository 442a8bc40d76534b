"""Runs artifacts where only onnxruntime is installed: they give the numbers of Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from reformer_export import to_onnx
from reformer_export.runtimes.onnx_probe import COMPUTED, FORCED, probing_model
from reformer_export.runtimes.transformers import TransformersRunner
from reformer_export.source import load_source
from reformer_export.verification.parity import Tolerance

from ..models.reformers import CRIME_AND_PUNISHMENT, ENWIK8_CUT, theirs
from ..tools.model_fixtures import Feeds, Fixtures, feeds, outputs_of, worst_error
from ..tools.plain_runtime import PlainPython

SHORT = (1, 63, 64, 65, 500)
LONG = (4096, 10_000, 16_384)

TOLERANCE = 1e-4
"""Largest error of an output, relative to its scale, if no decision flipped."""

FLIPPED_SHARE = 1e-4
"""Largest share of hash decisions that may flip; each (layer, token, head, round) is a decision."""


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> PlainPython:
    return PlainPython(tmp_path_factory.mktemp("plain") / "venv")


@pytest.mark.parametrize(
    "package",
    [
        *("reformer_export", "reformer_models", "reformer_ops"),
        *("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "safetensors"),
    ],
)
def test_nothing_else_can_be_imported_there(plain: PlainPython, package: str) -> None:
    done = plain.execute(f"import {package}")
    assert f"ModuleNotFoundError: No module named '{package}'" in done.stderr


def test_onnxruntime_there_is_the_one_here(plain: PlainPython) -> None:
    import onnxruntime

    done = plain.execute("import onnxruntime; print(onnxruntime.__version__)")
    assert done.stdout.strip() == onnxruntime.__version__


@pytest.mark.parametrize("options", [{}, {"ops": "portable"}, {"external_data": True}])
def test_small_artifacts(plain: PlainPython, fixtures: Fixtures, options: dict[str, Any]) -> None:
    model, artifact = fixtures.model(), fixtures.artifact(**options)
    inputs = [feeds(length, 3) for length in (1, 4, 7, 29, 120)]
    for given, found in zip(inputs, plain.run(artifact.format_path("onnx"), inputs), strict=True):
        assert worst_error(found, outputs_of(model, given)) <= 1e-5


@dataclass
class Case:
    """A model of Transformers, wrapped to show its buckets, and the artifact made from it."""

    vocab_size: int
    theirs: TransformersRunner
    model: Path
    probing: Path


def case(folder: Path, config: dict[str, Any]) -> Case:
    theirs("text-generation", **config).save_pretrained(folder / "checkpoint")
    artifact = to_onnx(folder / "checkpoint", folder / "artifact", verify=False)
    probing, _ = probing_model(artifact.format_path("onnx"), force=True)
    ir.save(probing, folder / "probing.onnx")
    runner = TransformersRunner(load_source(folder / "checkpoint"), artifact.signature)
    return Case(config["vocab_size"], runner, artifact.format_path("onnx"), folder / "probing.onnx")


@pytest.fixture(scope="session")
def crime_and_punishment(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case(tmp_path_factory.mktemp("crime-and-punishment"), CRIME_AND_PUNISHMENT)


@pytest.fixture(scope="session")
def enwik8(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case(tmp_path_factory.mktemp("enwik8"), ENWIK8_CUT)


def check(plain: PlainPython, case: Case, lengths: Sequence[int]) -> None:
    """Assert that outputs are equal if both hash alike, and always with Transformers' buckets.

    Decisions of a layer are compared while all earlier layers use Transformers' buckets. Otherwise
    one flipped decision would cause more differences in later layers.
    """
    inputs = [feeds(length, vocab_size=case.vocab_size) for length in lengths]
    probes = [case.theirs.probe(given) for given in inputs]
    free = plain.run(case.model, inputs)
    hashed = [i for i, p in enumerate(probes) if not any(b is None for b in p.buckets)]
    held = iter(plain.run(case.probing, [forced(inputs[i], probes[i].buckets) for i in hashed]))

    decisions = 0
    margins: list[float] = []
    for number, (probe, found) in enumerate(zip(probes, free, strict=True)):
        flipped: list[float] = []
        if number in hashed:
            shown = next(held)
            for layer, wanted in enumerate(probe.buckets):
                assert wanted is not None
                assert probe.margins is not None
                decisions += wanted.size
                different = np.nonzero(shown.pop(f"{COMPUTED}{layer}") != wanted)
                flipped += probe.margins(layer, different).tolist()
            assert worst_error(shown, probe.outputs) <= TOLERANCE, lengths[number]
        if not flipped:
            assert worst_error(found, probe.outputs) <= TOLERANCE, lengths[number]
        margins += flipped
    assert len(margins) <= max(1, FLIPPED_SHARE * decisions), f"of {decisions}"
    assert max(margins, default=0) <= Tolerance().flip_margin


def forced(given: Feeds, buckets: Sequence[np.ndarray | None]) -> Feeds:
    return given | {f"{FORCED}{layer}": np.asarray(b) for layer, b in enumerate(buckets)}


def test_crime_and_punishment(plain: PlainPython, crime_and_punishment: Case) -> None:
    check(plain, crime_and_punishment, SHORT)


@pytest.mark.slow
def test_crime_and_punishment_at_length(plain: PlainPython, crime_and_punishment: Case) -> None:
    check(plain, crime_and_punishment, LONG)


@pytest.mark.slow
def test_enwik8(plain: PlainPython, enwik8: Case) -> None:
    check(plain, enwik8, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("length", LONG)
def test_enwik8_at_length(plain: PlainPython, enwik8: Case, length: int) -> None:
    check(plain, enwik8, [length])
