"""The result of a comparison: rows for a table, a verdict, a record for the manifest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from reformer_export.artifact.manifest import WeightsRecord


@dataclass(frozen=True)
class Tolerance:
    """The limits within which results count as equal.

    Attributes:
        output: largest difference of an output, relative to its largest magnitude, when both sides
            use the same buckets. In half precision, the bound is also at most twice the error of
            plain torch in half precision against the same weights in fp32, plus `rounding`.
        flip_margin: a hash decision may differ only if the difference of the best and the
            second-best value is at most this, relative to a typical projection (`bucket_margins`).
        flip_fraction: the largest share of decisions that may differ; one decision always may.
        rounding: the error that rounding of the outputs alone may cause, in half precision.
    """

    output: float = 1e-4
    flip_margin: float = 1e-4
    flip_fraction: float = 1e-4
    rounding: float = 0.0


HALF = Tolerance(output=2e-2, flip_margin=0.1, flip_fraction=2e-2, rounding=2**-10)
"""For fp16: hidden states are rounded to three digits before they are hashed."""

BF16 = Tolerance(output=0.16, flip_margin=0.8, flip_fraction=0.16, rounding=2**-7)
"""For bf16, which has three mantissa bits fewer."""

INTEGERS = Tolerance(output=1.0, flip_margin=0.8, flip_fraction=0.16, rounding=2**-7)
"""For weights of 8 or 4 bits: rows are rounded to integers, so a number between two of them becomes
the one or the other, depending on how a runtime rounds the sums before it."""

_TOLERANCES = {"fp32": Tolerance(), "fp16": HALF, "bf16": BF16}


def tolerance_for(
    dtype: str, output: float | None = None, *, weights: WeightsRecord | None = None
) -> Tolerance:
    """The tolerance of a dtype ("fp32", "fp16", "bf16"); `output` replaces the bound on outputs.

    `weights` is the record of the weights, if they have fewer bits than `dtype`.
    """
    rounds = weights is not None and weights.rounds_inputs
    usual = INTEGERS if dtype == "fp32" and rounds else _TOLERANCES[dtype]
    return usual if output is None else replace(usual, output=output)


@dataclass(frozen=True)
class ParityRow:
    """One input against one reference.

    Attributes:
        decisions: hash decisions compared, with all earlier layers using the same buckets.
        flips: the number of decisions that differ; `flip_margin` is their largest margin.
        fixed_error: largest relative difference of an output with both sides using equal buckets.
        free_error: the same with each side using its own buckets.
        bound: the limit of `fixed_error`, and of `free_error` if there are no flips.
        misses: why the row fails, in words; empty when it passes.
    """

    reference: str
    length: int
    batch: int
    masked: bool
    seed: int
    decisions: int
    flips: int
    flip_margin: float
    fixed_error: float
    free_error: float
    bound: float
    misses: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True if there are no misses."""
        return not self.misses


@dataclass(frozen=True)
class ParityReport:
    """All rows, and the descriptions of the candidate and its references."""

    candidate: str
    references: Mapping[str, str]
    tolerance: Tolerance
    rows: tuple[ParityRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if there are rows and every row passes."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def flips(self) -> int:
        """Hash decisions that differ, over all rows."""
        return sum(row.flips for row in self.rows)

    @property
    def decisions(self) -> int:
        """Hash decisions compared, over all rows."""
        return sum(row.decisions for row in self.rows)

    @property
    def worst_error(self) -> float:
        """The largest relative difference at equal buckets."""
        return max((row.fixed_error for row in self.rows), default=0.0)

    @property
    def first_miss(self) -> str:
        """The first row that fails, in a sentence; empty when all pass."""
        for row in self.rows:
            if row.misses:
                return (
                    f"{row.misses[0]} (against {row.reference}, length {row.length}, "
                    f"batch {row.batch})"
                )
        return "" if self.rows else "nothing was compared"

    def summary(self) -> str:
        """The result in one line."""
        names = " and ".join(self.references)
        if not self.passed:
            return f"parity miss: {self.first_miss}"
        flips = f"{self.flips} of {self.decisions:,} hash decisions flipped"
        return (
            f"equal to {names} on {len(self.rows)} comparisons: "
            f"largest difference {self.worst_error:.1e} of the output's scale, {flips}"
        )

    def to_json(self) -> dict[str, Any]:
        """The record that the manifest stores and `--json` prints.

        JSON has no infinity: an error that is not a finite number is null.
        """
        return {
            "passed": self.passed,
            "summary": self.summary(),
            "candidate": self.candidate,
            "references": dict(self.references),
            "tolerance": asdict(self.tolerance),
            "decisions": self.decisions,
            "flips": self.flips,
            "worst_error": finite(self.worst_error),
            "notes": list(self.notes),
            "rows": [row_to_json(row) for row in self.rows],
        }


def row_to_json(row: ParityRow) -> dict[str, Any]:
    """A row as a JSON object; a float that is not finite is null."""
    fields = {name: finite(value) for name, value in asdict(row).items()}
    return fields | {"misses": list(row.misses), "passed": row.passed}


def finite(value: Any) -> Any:
    """The value; None for a float that JSON cannot represent."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def collect(
    candidate: str,
    references: Mapping[str, str],
    tolerance: Tolerance,
    rows: Iterable[ParityRow],
    notes: Iterable[str] = (),
) -> ParityReport:
    """A report that contains all `rows`."""
    return ParityReport(candidate, dict(references), tolerance, tuple(rows), tuple(notes))
