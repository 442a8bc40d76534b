"""Compares a candidate with its references on one input, in stages: hashing is a step function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reformer_export.artifact.signature import Signature
from reformer_export.errors import InferenceError, ParityError
from reformer_export.runtimes.base import (
    Array,
    Arrays,
    Buckets,
    Probe,
    ProbingRunner,
    ShowingRunner,
)
from reformer_export.verification.parity.inputs import ParityInput, another_rng_state
from reformer_export.verification.parity.report import ParityRow, Tolerance
from reformer_ops.core.errors import OpError


def compare(
    candidate: ProbingRunner | ShowingRunner,
    references: Sequence[ProbingRunner],
    example: ParityInput,
    tolerance: Tolerance,
    *,
    baseline: ProbingRunner | None = None,
) -> Iterator[ParityRow]:
    """Compare a runner with each reference on one input.

    First both attend with the reference's buckets while the candidate still hashes: every decision
    is compared with equal decisions in all earlier layers (stage 1), and the outputs are compared
    at equal buckets (stage 2). Then each runs with its own buckets (stage 3); these outputs must
    agree too, unless a decision flipped.

    If a candidate cannot take buckets, its own are used in stages 1 and 2: the reference attends
    with them while it still hashes.

    Args:
        references: the first one must show buckets for every layer, even for one that does not use
            them; later ones may give None.
        baseline: a runner in the candidate's precision; the candidate's error may be at most twice
            the error of this one, plus rounding.

    Yields:
        A row for each reference. If the candidate fails to run, or its outputs have a wrong type
        or shape, the last row reports that.
    """
    try:
        yield from _compare(candidate, references, example, tolerance, baseline)
    except (InferenceError, ParityError, OpError) as error:
        yield _failure(references[0].name, example, tolerance, str(error))


def _compare(
    candidate: ProbingRunner | ShowingRunner,
    references: Sequence[ProbingRunner],
    example: ParityInput,
    tolerance: Tolerance,
    baseline: ProbingRunner | None,
) -> Iterator[ParityRow]:
    inputs = example.inputs
    free = candidate.run(inputs)
    with another_rng_state(example.seed + 1):
        again = candidate.run(inputs)
    repeats = all(np.array_equal(free[name], again[name], equal_nan=True) for name in free)
    _check_types(free, candidate.signature)
    staged = (
        _reference_leads(candidate, references, inputs, baseline)
        if isinstance(candidate, ProbingRunner)
        else _candidate_leads(candidate, references, inputs, baseline)
    )
    for reference, stages in zip(references, staged, strict=True):
        yield _row(reference.name, example, tolerance, stages, free, repeats)


@dataclass(frozen=True)
class _Stages:
    """The runs to compare: in `free` the reference uses its own buckets; the others use equal
    buckets."""

    free: Probe
    expected: Probe
    held: Probe
    baseline: Probe | None


def _reference_leads(
    candidate: ProbingRunner,
    references: Sequence[ProbingRunner],
    inputs: Arrays,
    baseline: ProbingRunner | None,
) -> Iterator[_Stages]:
    """All runners attend with the buckets of each reference in turn."""
    forced: list[Array | None] | None = None
    for reference in references:
        expected = reference.probe(inputs)
        # If a reference does not hash, the buckets are not used: any value of the shape works.
        theirs = [
            own if shown is None else shown
            for shown, own in zip(expected.buckets, forced or expected.buckets, strict=True)
        ]
        if forced is None or not _same(forced, theirs):
            forced = theirs
            held = candidate.probe(inputs, forced)
            beside = baseline.probe(inputs, forced) if baseline is not None else None
        yield _Stages(expected, expected, held, beside)


def _candidate_leads(
    candidate: ShowingRunner,
    references: Sequence[ProbingRunner],
    inputs: Arrays,
    baseline: ProbingRunner | None,
) -> Iterator[_Stages]:
    """All runners attend with the candidate's buckets."""
    held = candidate.show(inputs)
    beside: Probe | None = None
    for number, reference in enumerate(references):
        free = reference.probe(inputs)
        if number == 0:
            _check_buckets(held.buckets, free.buckets)
            beside = baseline.probe(inputs, held.buckets) if baseline is not None else None
        yield _Stages(free, reference.probe(inputs, held.buckets), held, beside)


def _check_buckets(found: Buckets, wanted: Buckets) -> None:
    shapes = [[None if b is None else b.shape for b in side] for side in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise ParityError(f"buckets should be {shapes[1]}, found {shapes[0]}")


def _row(
    reference: str,
    example: ParityInput,
    tolerance: Tolerance,
    stages: _Stages,
    free: Arrays,
    repeats: bool,
) -> ParityRow:
    expected = stages.expected
    decisions, flips, flip_margin = _flips(expected, stages.held)
    fixed_error = relative_error(stages.held.outputs, expected.outputs)
    free_error = relative_error(free, stages.free.outputs)
    bound = tolerance.output
    if stages.baseline is not None:
        own_error = relative_error(stages.baseline.outputs, expected.outputs)
        bound = min(bound, 2 * own_error + tolerance.rounding)

    def misses() -> Iterator[str]:
        if not repeats:
            yield "two calls with the same input gave different outputs"
        if flip_margin > tolerance.flip_margin:
            yield f"a bucket differs although the decision was clear, by {flip_margin:.1e}"
        if flips > max(1.0, tolerance.flip_fraction * decisions):
            yield f"{flips} of {decisions} hash decisions differ"
        # Written so that a NaN fails.
        if not fixed_error <= bound:
            yield f"outputs differ by {fixed_error:.1e} of their scale at equal buckets"
        if not flips and not free_error <= bound:
            yield f"outputs differ by {free_error:.1e} of their scale end to end"

    return ParityRow(
        reference=reference,
        length=example.length,
        batch=example.batch,
        masked=example.masked,
        seed=example.seed,
        decisions=decisions,
        flips=flips,
        flip_margin=flip_margin,
        fixed_error=fixed_error,
        free_error=free_error,
        bound=bound,
        misses=tuple(misses()),
    )


def _failure(reference: str, example: ParityInput, tolerance: Tolerance, why: str) -> ParityRow:
    return ParityRow(
        reference=reference,
        length=example.length,
        batch=example.batch,
        masked=example.masked,
        seed=example.seed,
        decisions=0,
        flips=0,
        flip_margin=0.0,
        fixed_error=float("inf"),
        free_error=float("inf"),
        bound=tolerance.output,
        misses=(why,),
    )


def _check_types(outputs: Arrays, signature: Signature) -> None:
    for spec in signature.outputs:
        if outputs[spec.name].dtype != spec.dtype:
            raise ParityError(
                f"output {spec.name} should be {spec.dtype}, found {outputs[spec.name].dtype}"
            )


def relative_error(actual: Arrays, expected: Arrays) -> float:
    """The largest difference of any output, relative to that output's largest magnitude.

    Infinite if a value is NaN or infinite.

    Raises:
        ParityError: an output is missing or has another shape.
    """
    worst = 0.0
    for name, wanted in expected.items():
        found = actual.get(name)
        if found is None or found.shape != wanted.shape:
            shape = None if found is None else list(found.shape)
            raise ParityError(f"output {name} should be {list(wanted.shape)}, found {shape}")
        worst = max(worst, _relative(found, wanted))
    return worst


def _relative(found: Array, wanted: Array) -> float:
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return float("inf")
    wanted = wanted.astype(np.float64)
    difference = float(np.abs(found.astype(np.float64) - wanted).max())
    scale = max(float(np.abs(wanted).max()), float(np.finfo(np.float32).tiny))
    return difference / scale


def _same(first: Buckets, second: Buckets) -> bool:
    pairs = zip(first, second, strict=True)
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)


def _flips(expected: Probe, held: Probe) -> tuple[int, int, float]:
    """The number of decisions compared, the number that differ, and their largest margin."""
    decisions = flips = 0
    margin = 0.0
    for layer, (wanted, found) in enumerate(zip(expected.buckets, held.buckets, strict=True)):
        if wanted is None or found is None:
            continue
        different = np.nonzero(wanted != found)
        decisions += wanted.size
        flips += len(different[0])
        if len(different[0]):
            if expected.margins is None:
                return decisions, flips, float("inf")
            margin = max(margin, float(expected.margins(layer, different).max()))
    return decisions, flips, margin
