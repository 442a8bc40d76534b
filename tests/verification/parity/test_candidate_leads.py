"""Candidates that only show their buckets must meet the tolerances of those that accept buckets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from reformer_export.runtimes.base import Array, Arrays, Probe, ProbingRunner, ShowingRunner
from reformer_export.runtimes.torch import TorchRunner
from reformer_export.runtimes.transformers import TransformersRunner
from reformer_export.source import load_source
from reformer_export.verification.parity import Tolerance
from reformer_export.verification.parity.compare import compare
from reformer_export.verification.parity.inputs import ParityInput, parity_inputs
from reformer_models.loading import LoadedModel

from ...tools.model_fixtures import Fixtures
from .test_compare import contrary, margins_of, one


class Showing:
    """A runner like that of machine code: it runs the model, and shows the buckets that it used.

    `decide` changes the buckets that a layer uses, `outputs` changes the final outputs.
    """

    name = description = "showing"

    def __init__(
        self,
        runner: TorchRunner,
        *,
        decide: Callable[[Probe], Probe] = lambda probe: probe,
        outputs: Callable[[Array], Array] = lambda array: array,
    ) -> None:
        self.signature = runner.signature
        self._runner, self._decide, self._outputs = runner, decide, outputs

    def show(self, inputs: Arrays) -> Probe:
        own = self._runner.probe(inputs)
        pairs = zip(own.buckets, self._decide(own).buckets, strict=True)
        changed = [None if np.array_equal(a, b) else b for a, b in pairs]  # type: ignore[arg-type]
        probe = self._runner.probe(inputs, changed)
        # Layers after a changed one compute new buckets.
        used = [b if c is None else c for b, c in zip(probe.buckets, changed, strict=True)]
        return Probe({n: self._outputs(a) for n, a in probe.outputs.items()}, used)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        return self.show(inputs).outputs

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def loaded(fixtures: Fixtures) -> LoadedModel:
    return load_source(fixtures.checkpoint())


@pytest.fixture(scope="module")
def reference(fixtures: Fixtures, loaded: LoadedModel) -> TorchRunner:
    return TorchRunner(loaded, fixtures.artifact().signature)


@pytest.fixture(scope="module")
def example(fixtures: Fixtures) -> ParityInput:
    return next(parity_inputs(fixtures.artifact().signature, [(29, 3)]))


def test_it_is_told_apart(reference: TorchRunner) -> None:
    assert isinstance(Showing(reference), ShowingRunner)
    assert not isinstance(Showing(reference), ProbingRunner)
    assert not isinstance(reference, ShowingRunner)


def test_equal(
    fixtures: Fixtures, loaded: LoadedModel, reference: TorchRunner, example: ParityInput
) -> None:
    theirs = TransformersRunner(loaded, fixtures.artifact().signature)
    ours, hugging_face = compare(Showing(reference), [reference, theirs], example, Tolerance())
    for row in (ours, hugging_face):
        assert row.passed
        assert row.decisions == 2 * 3 * 2 * 2 * 36  # layers, batch, heads, rounds, padded length
    assert ours.fixed_error == ours.free_error == 0
    (short, *_) = parity_inputs(fixtures.artifact().signature, [(3, 3)])
    ours, hugging_face = compare(Showing(reference), [reference, theirs], short, Tolerance())
    assert (ours.passed, hugging_face.passed) == (True, True)
    assert hugging_face.decisions == 0  # it does not hash a sequence of one chunk


def test_a_close_decision_and_a_clear_one(reference: TorchRunner, example: ParityInput) -> None:
    margins = margins_of(reference, example)
    closest = np.unravel_index(np.nanargmin(margins), margins.shape)
    least = float(margins[closest])
    other = Showing(reference, decide=contrary(0, closest))
    for allowed, passes in ((least * 1.01, True), (least * 0.99, False)):
        row = one(compare(other, [reference], example, Tolerance(flip_margin=allowed)))
        assert row.passed is passes
        assert (row.flips, row.fixed_error) == (1, 0)
        assert row.flip_margin == pytest.approx(least)
    clearest = np.unravel_index(np.nanargmax(margins), margins.shape)
    other = Showing(reference, decide=contrary(0, clearest))
    row = one(compare(other, [reference], example, Tolerance()))
    assert row.misses == (
        f"a bucket differs although the decision was clear, by {np.nanmax(margins):.1e}",
    )


def test_wrong_outputs(reference: TorchRunner, example: ParityInput) -> None:
    wrong = Showing(reference, outputs=lambda array: array * np.float32(1.001))
    row = one(compare(wrong, [reference], example, Tolerance()))
    assert len(row.misses) == 2  # at equal buckets, and end to end


def test_buckets_of_another_shape_or_out_of_range(
    reference: TorchRunner, example: ParityInput
) -> None:
    class Odd(Showing):
        def __init__(self, change: Callable[[Array], Array]) -> None:
            super().__init__(reference)
            self._change = change

        def show(self, inputs: Arrays) -> Probe:
            probe = reference.probe(inputs)
            changed = [self._change(b) for b in probe.buckets if b is not None]
            return dataclasses.replace(probe, buckets=changed)

    row = one(compare(Odd(lambda b: b[..., :-1]), [reference], example, Tolerance()))
    assert "buckets should be [(3, 2, 2, 36), (3, 2, 2, 36)], found" in row.misses[0]
    row = one(compare(Odd(lambda b: b + 1000), [reference], example, Tolerance()))
    assert not row.passed
