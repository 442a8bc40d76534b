"""Compares a runtime with the model on the CPU, and says by how much they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reformer_export.artifact.signature import Signature
from reformer_export.runtimes import ProbingRunner
from reformer_export.verification.parity.compare import compare
from reformer_export.verification.parity.inputs import ParityInput, parity_inputs
from reformer_export.verification.parity.report import Tolerance, tolerance_for

FP32 = Tolerance(output=2e-5)
"""Stricter than an artifact's: rounding takes two millionths on a GPU."""


class Miss(AssertionError):
    """The numbers are not those of the model."""


def example(signature: Signature, length: int, batch: int) -> ParityInput:
    """Random tokens; a batch of several has rows of several lengths."""
    return next(iter(parity_inputs(signature, [(length, batch)])))


def tolerance(dtype: str) -> Tolerance:
    """What a model of this type is held to."""
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
    """Compare at equal buckets and end to end; Miss where that is more than rounding.

    Args:
        candidate: what is tested.
        references: what it is compared with.
        inputs: one call.
        dtype: the model's type.
        figures: gets the largest error and what it is held to, and the decisions that flipped.
        baseline: plain torch in the same type, of whose error twice as much is allowed.
    """
    rows = list(compare(candidate, references, inputs, tolerance(dtype), baseline=baseline))
    figures["error"] = max(row.fixed_error for row in rows)
    figures["bound"] = max(row.bound for row in rows)
    figures["flips"] = max(row.flips for row in rows)
    for row in rows:
        if row.misses:
            raise Miss(f"against {row.reference}: {'; '.join(row.misses)}")
