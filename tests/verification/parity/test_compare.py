"""The comparison finds the defects of an artifact, and reports no others."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from reformer_export.artifact import Artifact
from reformer_export.runtimes.base import (
    Array,
    Arrays,
    Buckets,
    Probe,
    ProbingRunner,
    RunnerOptions,
)
from reformer_export.runtimes.onnxruntime import OnnxRuntimeRunner
from reformer_export.runtimes.torch import TorchRunner
from reformer_export.runtimes.transformers import TransformersRunner
from reformer_export.source import load_source
from reformer_export.verification.parity import ParityReport, ParityRow, Tolerance, verify_against
from reformer_export.verification.parity.compare import compare, relative_error
from reformer_export.verification.parity.inputs import ParityInput, parity_inputs
from reformer_models.loading import LoadedModel

from ...tools.model_fixtures import Fixtures
from .defects import (
    Defect,
    after,
    constant,
    half_logits,
    length_baked,
    mask_ignored,
    renamed_output,
    weight,
    with_defect,
)

BUCKETS = "layers.1.attention.self_attention/LshBucket/output"
DIFFER = r"outputs differ by .* of their scale at equal buckets"
FLIPPED = "a bucket differs although the decision was clear"
NOISE = helper.make_node("RandomNormalLike", ["in"], ["noise"], scale=1e-6)


@pytest.fixture(scope="module")
def loaded(fixtures: Fixtures) -> LoadedModel:
    return load_source(fixtures.checkpoint())


@pytest.fixture(scope="module")
def half(fixtures: Fixtures) -> LoadedModel:
    return load_source(fixtures.checkpoint(), dtype="fp16")


def flipped_sign(array: np.ndarray) -> np.ndarray:
    return -array


def with_nan(array: np.ndarray) -> np.ndarray:
    array.flat[3] = np.nan
    return array


def with_infinity(array: np.ndarray) -> np.ndarray:
    array.flat[3] = np.inf
    return array


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        pytest.param(weight("lm_head.decoder.weight", lambda w: w * 1.001), DIFFER, id="weight"),
        pytest.param(weight("word_embeddings.weight", flipped_sign), DIFFER, id="embedding"),
        pytest.param(weight("word_embeddings.weight", with_nan), "differ by inf", id="nan"),
        pytest.param(weight("lm_head.decoder.weight", with_infinity), "differ by inf", id="inf"),
        pytest.param(weight("rotations", flipped_sign), FLIPPED, id="rotations"),
        pytest.param(
            after(
                BUCKETS,
                constant("one", 1, "int32"),
                constant("all", 24, "int32"),
                helper.make_node("Add", ["in", "one"], ["next"]),
                helper.make_node("Mod", ["next", "all"], ["out"]),
            ),
            FLIPPED,
            id="buckets",
        ),
        pytest.param(
            after("logits", NOISE, helper.make_node("Add", ["in", "noise"], ["out"])),
            "two calls with the same input gave different outputs",
            id="random",
        ),
        pytest.param(
            after(
                "logits",
                *(constant(*c, "int64") for c in (("zero", [0]), ("last", [-1]), ("axis", [1]))),
                helper.make_node("Slice", ["in", "zero", "last", "axis"], ["out"]),
            ),
            r"output logits should be \[1, 13, 40\], found \[1, 12, 40\]",
            id="shape",
        ),
        pytest.param(half_logits, "output logits should be float32, found float16", id="type"),
        pytest.param(renamed_output, "onnxruntime failed on 1 x 13 tokens: .*logits", id="name"),
    ],
)
def test_defects_are_found(
    fixtures: Fixtures, loaded: LoadedModel, tmp_path: Path, defect: Defect, said: str
) -> None:
    broken = with_defect(fixtures.artifact(), tmp_path / "broken", defect)
    report = verify_against(broken, loaded, lengths=[13], batches=[1])
    assert not report.passed
    misses = [miss for row in report.rows for miss in row.misses]
    assert any(re.search(said, miss) for miss in misses), misses
    assert report.summary().startswith("parity miss: ")


def test_a_mask_that_is_ignored(fixtures: Fixtures, loaded: LoadedModel, tmp_path: Path) -> None:
    """Only inputs with a mask show this defect."""
    broken = with_defect(fixtures.artifact(), tmp_path / "broken", mask_ignored)
    rows = verify_against(broken, loaded, lengths=[4, 13]).rows
    assert {row.passed for row in rows if not row.masked} == {True}
    assert {row.passed for row in rows if row.masked} == {False}


def test_a_length_that_is_baked(fixtures: Fixtures, loaded: LoadedModel, tmp_path: Path) -> None:
    """Only other lengths show this defect."""
    broken = with_defect(fixtures.artifact(), tmp_path / "broken", length_baked)
    rows = verify_against(broken, loaded, lengths=[28, 29, 31], batches=[1]).rows
    assert {row.length for row in rows if row.passed} == {29}
    assert {row.length for row in rows if not row.passed} == {28, 31}


def test_half_precision_may_err_as_much_as_torch_does(
    fixtures: Fixtures, half: LoadedModel, tmp_path: Path
) -> None:
    """The bound is twice torch's error, far less than the general tolerance of half precision."""

    def verify(artifact: Artifact) -> ParityReport:
        return verify_against(artifact, half, lengths=[13, 29], batches=[1])

    good = fixtures.artifact(dtype="fp16")
    report = verify(good)
    assert report.passed, report.summary()
    assert all(row.bound < 5e-3 < report.tolerance.output for row in report.rows)
    defect = weight("lm_head.decoder.weight", lambda w: w * 1.01)
    report = verify(with_defect(good, tmp_path / "broken", defect))
    assert not report.passed
    assert all(row.fixed_error < report.tolerance.output for row in report.rows)


@pytest.fixture(scope="module")
def candidate(fixtures: Fixtures) -> OnnxRuntimeRunner:
    return OnnxRuntimeRunner(fixtures.artifact(), RunnerOptions(threads=1))


@pytest.fixture(scope="module")
def reference(fixtures: Fixtures, loaded: LoadedModel) -> TorchRunner:
    return TorchRunner(loaded, fixtures.artifact().signature)


@pytest.fixture(scope="module")
def example(fixtures: Fixtures) -> ParityInput:
    return next(parity_inputs(fixtures.artifact().signature, [(29, 3)]))


class Tampered:
    """A runner that returns the results of another one, with changes."""

    def __init__(
        self,
        runner: ProbingRunner,
        *,
        outputs: Callable[[Array], Array] = lambda array: array,
        probe: Callable[[Probe], Probe] = lambda probe: probe,
    ) -> None:
        self.name, self.description = runner.name, runner.description
        self.signature = runner.signature
        self._runner = runner
        self._outputs = outputs
        self._probe = probe

    def run(self, inputs: Arrays) -> dict[str, Array]:
        return {name: self._outputs(a) for name, a in self._runner.run(inputs).items()}

    def probe(self, inputs: Arrays, forced: Buckets | None = None) -> Probe:
        return self._probe(self._runner.probe(inputs, forced))

    def close(self) -> None: ...


def contrary(layer: int, *places: Sequence[int]) -> Callable[[Probe], Probe]:
    """Changes the buckets of some queries of a layer."""

    def change(probe: Probe) -> Probe:
        buckets = list(probe.buckets)
        changed = np.array(buckets[layer])
        for place in places:
            changed[tuple(place)] = (changed[tuple(place)] + 1) % 24
        buckets[layer] = changed
        return dataclasses.replace(probe, buckets=buckets)

    return change


def margins_of(reference: ProbingRunner, example: ParityInput) -> Array:
    """The margins of the first LSH layer's decisions, `[batch, heads, num_hashes, length]`."""
    probe = reference.probe(example.inputs)
    buckets = probe.buckets[0]
    assert buckets is not None
    assert probe.margins is not None
    everywhere = np.nonzero(np.ones(buckets.shape, bool))
    found = np.array(probe.margins(0, everywhere)).reshape(buckets.shape)
    valid = np.zeros(buckets.shape, bool)  # padding has no hash decisions
    valid[..., : example.length] = example.inputs["attention_mask"][:, None, None] == 1
    return np.where(valid, found, np.nan)


def one(rows: Any) -> ParityRow:
    (row,) = rows
    assert isinstance(row, ParityRow)
    return row


def test_equal_runners(
    candidate: OnnxRuntimeRunner, reference: TorchRunner, example: ParityInput
) -> None:
    row = one(compare(candidate, [reference], example, Tolerance()))
    assert row.passed
    assert (row.reference, row.length, row.batch, row.masked) == ("torch", 29, 3, True)
    assert row.decisions == 2 * 3 * 2 * 2 * 36  # layers, batch, heads, rounds, padded length
    assert row.flips == 0
    assert max(row.fixed_error, row.free_error) < 1e-5
    assert row.bound == Tolerance().output


def test_transformers_does_not_hash_what_fits_one_chunk(
    fixtures: Fixtures, loaded: LoadedModel, candidate: OnnxRuntimeRunner, reference: TorchRunner
) -> None:
    theirs = TransformersRunner(loaded, fixtures.artifact().signature)
    (short, *_) = parity_inputs(fixtures.artifact().signature, [(3, 3)])
    assert theirs.probe(short.inputs).buckets == [None, None]
    ours, hugging_face = compare(candidate, [reference, theirs], short, Tolerance())
    assert ours.passed
    assert ours.decisions == 2 * 3 * 2 * 2 * 3
    assert hugging_face.passed
    assert hugging_face.decisions == 0


def test_a_close_decision_may_go_the_other_way(
    candidate: OnnxRuntimeRunner, reference: TorchRunner, example: ParityInput
) -> None:
    margins = margins_of(reference, example)
    closest = np.unravel_index(np.nanargmin(margins), margins.shape)
    least = float(margins[closest])
    other = Tampered(candidate, probe=contrary(0, closest))
    for allowed, passes in ((least * 1.01, True), (least * 0.99, False)):
        row = one(compare(other, [reference], example, Tolerance(flip_margin=allowed)))
        assert row.passed is passes
        assert row.flips == 1
        assert row.flip_margin == pytest.approx(least)


def test_a_clear_decision_may_not(
    candidate: OnnxRuntimeRunner, reference: TorchRunner, example: ParityInput
) -> None:
    margins = margins_of(reference, example)
    clearest = np.unravel_index(np.nanargmax(margins), margins.shape)
    other = Tampered(candidate, probe=contrary(0, clearest))
    row = one(compare(other, [reference], example, Tolerance()))
    assert row.misses == (f"{FLIPPED}, by {np.nanmax(margins):.1e}",)


def test_close_decisions_may_not_all_go_the_other_way(
    candidate: OnnxRuntimeRunner, reference: TorchRunner, example: ParityInput
) -> None:
    other = Tampered(candidate, probe=contrary(1, (0, 0, 0, 1), (2, 1, 1, 0)))
    tolerance = Tolerance(flip_margin=float("inf"))
    row = one(compare(other, [reference], example, tolerance))
    assert row.misses == (f"2 of {row.decisions} hash decisions differ",)
    generous = dataclasses.replace(tolerance, flip_fraction=0.01)
    assert one(compare(other, [reference], example, generous)).passed


def test_a_flip_whose_margin_nobody_knows_is_a_miss(
    candidate: OnnxRuntimeRunner, reference: TorchRunner, example: ParityInput
) -> None:
    silent = Tampered(reference, probe=lambda probe: dataclasses.replace(probe, margins=None))
    other = Tampered(candidate, probe=contrary(0, (0, 0, 0, 1)))
    row = one(compare(other, [silent], example, Tolerance()))
    assert row.flip_margin == float("inf")
    assert not row.passed


def test_a_runner_that_is_right_only_while_it_is_watched(
    candidate: OnnxRuntimeRunner, reference: TorchRunner, example: ParityInput
) -> None:
    other = Tampered(candidate, outputs=lambda array: array * np.float32(1.001))
    row = one(compare(other, [reference], example, Tolerance()))
    assert row.fixed_error < 1e-5
    assert len(row.misses) == 1
    assert row.misses[0].endswith("of their scale end to end")


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_never_equal(odd: float) -> None:
    some = {"x": np.array([1.0, odd], np.float32)}
    plain = {"x": np.array([1.0, 2.0], np.float32)}
    for found, wanted in ((some, plain), (plain, some), (some, some)):
        assert relative_error(found, wanted) == float("inf")


def test_errors_are_relative_to_each_output() -> None:
    wanted = {"small": np.array([1e-3, 0.0]), "large": np.array([1e3, 1.0])}
    assert relative_error(wanted, wanted) == 0
    off = {"small": np.array([1e-3, 1e-6]), "large": np.array([1e3, 1.0])}
    assert relative_error(off, wanted) == pytest.approx(1e-3)
    assert relative_error({"x": np.zeros(2)}, {"x": np.zeros(2)}) == 0
