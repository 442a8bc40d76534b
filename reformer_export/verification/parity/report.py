"""The outcome of a comparison: rows for a table, a verdict, a record for the manifest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Tolerance:
    """What still counts as equal.

    Attributes:
        output: largest difference of an output, relative to its largest magnitude, when both sides
            use the same buckets. In half precision the bound is instead twice what plain torch in
            half precision differs from the same weights in fp32.
        flip_margin: a hash decision may differ only if best and second best were closer than this,
            relative to a usual projection (`bucket_margins`).
        flip_fraction: the most decisions that may differ at all.
        rounding: what rounding the outputs alone may cost, in half precision.
    """

    output: float = 1e-4
    flip_margin: float = 1e-4
    flip_fraction: float = 1e-4
    rounding: float = 0.0


HALF = Tolerance(output=2e-2, flip_margin=0.1, flip_fraction=2e-2, rounding=2**-10)
"""For fp16: hidden states are rounded to three digits before they are hashed."""

BF16 = Tolerance(output=0.16, flip_margin=0.8, flip_fraction=0.16, rounding=2**-7)
"""For bf16, which has three bits less."""

_TOLERANCES = {"fp32": Tolerance(), "fp16": HALF, "bf16": BF16}


def tolerance_for(dtype: str, output: float | None = None) -> Tolerance:
    """What a model of a type ("fp32", "fp16", "bf16") is held to; `output` replaces one bound."""
    usual = _TOLERANCES[dtype]
    return usual if output is None else replace(usual, output=output)


@dataclass(frozen=True)
class ParityRow:
    """One input against one reference.

    Attributes:
        decisions: hash decisions compared, with all earlier layers using the same buckets.
        flips: how many of them differ; `flip_margin` is the clearest of those.
        fixed_error: largest relative difference of an output at the reference's buckets.
        free_error: the same with each side using its own buckets.
        bound: what `fixed_error` is held to.
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
        """Nothing is amiss."""
        return not self.misses


@dataclass(frozen=True)
class ParityReport:
    """All rows, and what was compared with what."""

    candidate: str
    references: Mapping[str, str]
    tolerance: Tolerance
    rows: tuple[ParityRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Every row passes, and there are rows."""
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
        """One line for people."""
        names = " and ".join(self.references)
        if not self.passed:
            return f"parity miss: {self.first_miss}"
        flips = f"{self.flips} of {self.decisions:,} hash decisions flipped"
        return (
            f"equal to {names} on {len(self.rows)} comparisons: "
            f"largest difference {self.worst_error:.1e} of the output's scale, {flips}"
        )

    def to_json(self) -> dict[str, Any]:
        """The record that goes into the manifest and comes out of `--json`.

        JSON has no infinity: an error that is no finite number is null.
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
    """A row as an object; what is no finite number is null."""
    fields = {name: finite(value) for name, value in asdict(row).items()}
    return fields | {"misses": list(row.misses), "passed": row.passed}


def finite(value: Any) -> Any:
    """The value; None for a float that JSON has no word for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def collect(
    candidate: str,
    references: Mapping[str, str],
    tolerance: Tolerance,
    rows: Iterable[ParityRow],
    notes: Iterable[str] = (),
) -> ParityReport:
    """A report from rows as they come."""
    return ParityReport(candidate, dict(references), tolerance, tuple(rows), tuple(notes))
