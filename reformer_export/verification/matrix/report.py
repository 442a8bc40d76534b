"""The result of comparing all runtimes with torch and with each other.

docs/matrix.md describes the JSON document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reformer_export.artifact.manifest import utc_now
from reformer_export.verification.parity.report import ParityRow, Tolerance, finite, row_to_json

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Contender:
    """A runtime: its rows against the reference, or the `reason` why it has none.

    `generates` is True if it was compared while it generates, not on whole sequences.
    """

    name: str
    description: str | None = None
    reason: str | None = None
    rows: tuple[ParityRow, ...] = ()
    generates: bool = False

    @property
    def ran(self) -> bool:
        """True if it was compared."""
        return bool(self.rows)

    @property
    def passed(self) -> bool:
        """True if skipped, or if all rows are within the tolerances."""
        return all(row.passed for row in self.rows)

    def at(self, length: int) -> list[ParityRow]:
        """Its rows at one length."""
        return [row for row in self.rows if row.length == length]


@dataclass(frozen=True)
class PairRow:
    """Two runtimes, each with its own buckets, over all inputs of one length.

    Attributes:
        inputs: the number of inputs compared.
        equal: the number of inputs where both have equal buckets.
        flips: differing decisions in the first layer that has any, summed over the inputs.
        error: the largest relative difference of an output on inputs with equal buckets; None if
            there are none.
        bound: the limit of `error`: the sum of both runtimes' bounds against the reference, the
            smallest over the inputs.
        passed: True if both passed against the reference on every input, and every error is within
            the bound of its input.
    """

    first: str
    second: str
    length: int
    inputs: int
    equal: int
    flips: int
    error: float | None
    bound: float
    passed: bool


@dataclass(frozen=True)
class MatrixReport:
    """All comparisons, and the environment that they ran in."""

    artifacts: tuple[Mapping[str, Any], ...]
    model: Mapping[str, Any]
    reference: Contender
    contenders: tuple[Contender, ...]
    pairs: tuple[PairRow, ...]
    lengths: tuple[int, ...]
    tolerance: Tolerance
    environment: Mapping[str, Any]
    created: str = field(default_factory=utc_now)

    @property
    def running(self) -> tuple[Contender, ...]:
        """The contenders that ran."""
        return tuple(contender for contender in self.contenders if contender.ran)

    @property
    def passed(self) -> bool:
        """True if at least one runtime ran and all of them are within the tolerances."""
        return (
            bool(self.running)
            and all(contender.passed for contender in self.contenders)
            and all(pair.passed for pair in self.pairs)
        )

    @property
    def summary(self) -> str:
        """The result in one line."""
        for contender in self.contenders:
            for row in contender.rows:
                if row.misses:
                    return (
                        f"parity miss: {contender.name}: {row.misses[0]} "
                        f"(length {row.length}, batch {row.batch})"
                    )
        for pair in self.pairs:
            if not pair.passed:
                return (
                    f"parity miss: {pair.first} and {pair.second} differ by {number(pair.error)} "
                    f"at length {pair.length}"
                )
        if not self.running:
            return "parity miss: no runtime can run this artifact here"
        rows = [row for contender in self.running for row in contender.rows]
        flips, decisions = (sum(getattr(r, key) for r in rows) for key in ("flips", "decisions"))
        generating = sum(contender.generates for contender in self.running)
        also = f", {generating} of them generating" if generating else ""
        return (
            f"{len(self.running) - generating} runtimes equal to {self.reference.name} and to each "
            f"other at {len(self.lengths)} lengths{also}: largest difference "
            f"{number(max(row.fixed_error for row in rows))} of the output's scale, "
            f"{flips} of {decisions:,} hash decisions flipped"
        )

    def to_json(self) -> dict[str, Any]:
        """The document of docs/matrix.md."""
        return {
            "schema_version": SCHEMA_VERSION,
            "passed": self.passed,
            "summary": self.summary,
            "created": self.created,
            "artifacts": [dict(artifact) for artifact in self.artifacts],
            "model": dict(self.model),
            "environment": dict(self.environment),
            "tolerance": asdict(self.tolerance),
            "lengths": list(self.lengths),
            "reference": {
                "name": self.reference.name,
                "description": self.reference.description,
            },
            "contenders": [
                {
                    "name": contender.name,
                    "description": contender.description,
                    "reason": contender.reason,
                    "generates": contender.generates,
                    "passed": contender.passed if contender.ran else None,
                    "rows": [row_to_json(row) for row in contender.rows],
                }
                for contender in self.contenders
            ],
            "pairs": [
                {name: finite(value) for name, value in asdict(pair).items()} for pair in self.pairs
            ],
        }

    @property
    def header(self) -> Sequence[str]:
        """The column headings of `table`."""
        return ("runtime", *(f"{length:,}" for length in self.lengths))

    def table(self) -> Iterator[tuple[str, ...]]:
        """A row for each runtime: its largest difference from the reference at each length."""
        for contender in self.contenders:
            if contender.ran:
                cells = (cell(contender.at(length)) for length in self.lengths)
                yield (contender.name, *cells)

    def absent(self) -> Iterator[str]:
        """A line for each runtime that did not run, with the reason."""
        for contender in self.contenders:
            if not contender.ran:
                yield f"{contender.name} did not run: {contender.reason}"


def cell(rows: Sequence[ParityRow]) -> str:
    """The largest difference, with the number of flips if any, and a mark if a row missed."""
    if not rows:
        return "-"
    flips = sum(row.flips for row in rows)
    text = number(max(row.fixed_error for row in rows))
    text += f" ({flips} flipped)" if flips else ""
    return text if all(row.passed for row in rows) else f"MISS {text}"


def number(value: float | None) -> str:
    """An error, formatted for people."""
    return "-" if value is None else "0" if value == 0 else f"{value:.1e}"
