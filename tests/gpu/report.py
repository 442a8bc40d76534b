"""The results of a check: gpu-check.json for programs, gpu-check.md for people."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .parts import Part, group_of
from .record import FAILED, NOT_RUN, PASSED, SKIPPED

SCHEMA_VERSION = 1
JSON, PAGE = "gpu-check.json", "gpu-check.md"

Tables = dict[str, dict[str, dict[str, Any]]]
"""Tables by title. Each table has rows by name, and each row has figures by column."""

_SHOWN = 40
"""The most failed cases of a part that the page lists."""


@dataclass
class Case:
    """The result of one case."""

    name: str
    status: str = NOT_RUN
    why: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class PartResult:
    """The result of a part: its cases by name, and `why` if the part was skipped or cut short.

    `trouble` lists failures that belong to no case: a module that does not load, a process that
    died.
    """

    part: Part
    cases: dict[str, Case] = field(default_factory=dict)
    why: str = ""
    trouble: list[str] = field(default_factory=list)
    seconds: float = 0.0
    concluded: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """The number of cases with each status."""
        return Counter(case.status for case in self.cases.values())

    @property
    def wrong(self) -> bool:
        """Something that ran did not go right."""
        return bool(self.trouble) or self.counts[FAILED] > 0

    @property
    def state(self) -> str:
        """One of "wrong", "skipped", "not run", "right", "in part"."""
        counts = self.counts
        if self.wrong:
            return "wrong"
        if not counts[PASSED]:
            return "skipped" if self.why or counts[SKIPPED] else "not run"
        return "in part" if counts[NOT_RUN] else "right"


@dataclass
class Report:
    """The whole check. `facts` come from its processes and replace entries of `machine`."""

    machine: Mapping[str, str]
    parts: list[PartResult]
    rehearsal: bool = False
    tables: Tables = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False

    @property
    def wrong(self) -> bool:
        """Something that ran did not go right."""
        return any(part.wrong for part in self.parts)

    def of(self, name: str) -> PartResult:
        """A part's result, by its name."""
        return next(result for result in self.parts if result.part.name == name)

    def take(self, result: PartResult, event: Mapping[str, Any]) -> None:
        """Add an event from a process of the part."""
        kind = event["kind"]
        if kind == "case":
            known = result.cases.setdefault(event["case"], Case(event["case"]))
            known.status, known.why = event["status"], event["why"]
            known.seconds, known.figures = event["seconds"], event["figures"]
        elif kind == "cell":
            rows = self.tables.setdefault(event["table"], {})
            rows.setdefault(event["row"], {}).update(event["columns"])
        elif kind == "fact":
            self.facts[event["name"]] = event["value"]
        elif kind == "skip":
            result.why = event["why"]

    def write(self, folder: Path) -> None:
        """Write both files, each completely or not at all."""
        _replace(folder / JSON, json.dumps(self.to_json(), indent=1) + "\n")
        _replace(folder / PAGE, self.page())

    def to_json(self) -> dict[str, Any]:
        """The report as a document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "finished": self.finished,
            "wrong": self.wrong,
            "rehearsal": self.rehearsal,
            "seconds": round(self.seconds, 1),
            "machine": {**self.machine, **self.facts},
            "notes": self.notes,
            "parts": [_part_as_json(result) for result in self.parts],
            "tables": self.tables,
        }

    def page(self) -> str:
        """The report as a page in Markdown."""
        return "\n".join(self._lines()) + "\n"

    def summary(self) -> str:
        """Only the table of parts."""
        header = ("part", "state", "right", "wrong", "skipped", "not run", "seconds", "why")
        return table(header, map(_summary_row, self.parts))

    def _lines(self) -> Iterator[str]:
        yield "# GPU check" + (", a rehearsal on the CPU" if self.rehearsal else "")
        yield ""
        if not self.finished:
            yield "**Not finished: this is what was there when it stopped.**\n"
        facts = {**self.machine, **self.facts, "took": f"{self.seconds:.0f} s"}
        yield table(("", ""), facts.items())
        yield self.summary()
        yield from (f"- {note}" for note in self.notes)
        for result in self.parts:
            yield from _troubles(result)
        for result in self.parts:
            yield from _worst(result)
        for title, rows in self.tables.items():
            yield f"## {title}\n"
            columns = list(dict.fromkeys(name for row in rows.values() for name in row))
            cells = ([name, *(number(row.get(c)) for c in columns)] for name, row in rows.items())
            yield table(["", *columns], cells)
        for result in self.parts:
            if result.concluded:
                yield f"## What {result.part.name} comes to\n"
                yield "".join(f"- {line}\n" for line in result.concluded)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(_cell(text) for text in line)} |\n" for line in lines)


def number(value: Any) -> str:
    """A figure with about three digits."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or value == 0:
        return f"{value:,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 0.01:
        return f"{value:.3g}"
    return f"{value:.1e}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _summary_row(result: PartResult) -> list[str]:
    counts = result.counts
    shown = [str(counts[status] or "") for status in (PASSED, FAILED, SKIPPED, NOT_RUN)]
    why = "; ".join([*result.trouble, *([result.why] if result.why else [])])
    return [result.part.name, result.state, *shown, f"{result.seconds:.0f}", why]


def _troubles(result: PartResult) -> Iterator[str]:
    """The failures, and the reasons why cases were skipped."""
    failed = [case for case in result.cases.values() if case.status == FAILED]
    if failed or result.trouble:
        yield f"## Wrong in {result.part.name}\n"
        yield "".join(f"- {line}\n" for line in result.trouble)
        yield "".join(f"- `{case.name}`: {case.why}\n" for case in failed[:_SHOWN])
        if len(failed) > _SHOWN:
            yield f"- and {len(failed) - _SHOWN} more: see {JSON}\n"
    skipped = Counter(case.why for case in result.cases.values() if case.status == SKIPPED)
    if skipped:
        yield f"## Skipped in {result.part.name}\n"
        yield "".join(f"- {count} cases: {why}\n" for why, count in skipped.items())


def _worst(result: PartResult) -> Iterator[str]:
    """The largest value of each figure, for each group of cases."""
    groups: dict[str, list[Case]] = {}
    for case in result.cases.values():
        if case.figures and case.status in (PASSED, FAILED):
            groups.setdefault(group_of(case.name), []).append(case)
    if not groups:
        return
    yield f"## {result.part.name}: {result.part.about}\n"
    columns = list(dict.fromkeys(n for found in groups.values() for c in found for n in c.figures))
    header = ("", "cases", *(f"largest {name}" for name in columns))
    yield table(header, (_group_row(name, found, columns) for name, found in groups.items()))


def _group_row(name: str, cases: Sequence[Case], columns: Sequence[str]) -> list[str]:
    largest = []
    for column in columns:
        found = [case.figures[column] for case in cases if case.figures.get(column) is not None]
        largest.append(number(max(found)) if found else "-")
    return [name, str(len(cases)), *largest]


def _part_as_json(result: PartResult) -> dict[str, Any]:
    return {
        "name": result.part.name,
        "about": result.part.about,
        "state": result.state,
        "counts": dict(result.counts),
        "why": result.why,
        "trouble": result.trouble,
        "seconds": round(result.seconds, 1),
        "concluded": result.concluded,
        "cases": [vars(case) for case in result.cases.values()],
    }


def _replace(path: Path, text: str) -> None:
    half = path.with_name(f".{path.name}.part")
    half.write_text(text, encoding="utf-8")
    os.replace(half, path)
