"""Compares a runtime with the model on the CPU, and measures how much they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reformer_export.artifact.signature import Signature
from reformer_export.runtimes import ProbingRunner
from reformer_export.verification.parity.compare import compare
from reformer_export.verification.parity.inputs import ParityInput, parity_inputs
from reformer_export.verification.parity.report import Tolerance, tolerance_for

FP32 = Tolerance(output=2e-5)
"""Stricter than for an artifact: rounding on a GPU costs two millionths."""


class Miss(AssertionError):
    """The numbers are not those of the model."""


def example(signature: Signature, length: int, batch: int) -> ParityInput:
    """Random tokens; a batch of several has rows of several lengths."""
    return next(iter(parity_inputs(signature, [(length, batch)])))


def tolerance(dtype: str) -> Tolerance:
    """The tolerance for a model of this type."""
    return FP32 if dtype == "fp32" else tolerance_for(dtype)


def expect_equal(
    candidate: ProbingRunner,
    references: Sequence[ProbingRunner],
    inputs: ParityInput,
    dtype: str,
    figures: dict[str, Any],
    *,
    baseline: ProbingRunner | None = None,
) -> None:
    """Compare at equal buckets and end to end; raise Miss if they differ by more than rounding.

    Args:
        candidate: the runner under test.
        references: the runners that it is compared with.
        inputs: the inputs of one call.
        dtype: the model's type.
        figures: receives the largest error, its bound, and the number of decisions that flipped.
        baseline: plain torch in the same type; twice its error is allowed.
    """
    rows = list(compare(candidate, references, inputs, tolerance(dtype), baseline=baseline))
    figures["error"] = max(row.fixed_error for row in rows)
    figures["bound"] = max(row.bound for row in rows)
    figures["flips"] = max(row.flips for row in rows)
    for row in rows:
        if row.misses:
            raise Miss(f"against {row.reference}: {'; '.join(row.misses)}")
