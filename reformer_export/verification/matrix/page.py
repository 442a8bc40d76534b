"""A matrix as one HTML page without other files, so that it can be attached to a release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reformer_export.verification.matrix.plot import Axes, error_plot
from reformer_export.verification.matrix.report import Contender, MatrixReport, cell, number


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `why` is the reason of a miss."""

    text: str
    missed: bool = False
    why: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    name: str
    cells: tuple[Cell, ...]


def page(report: MatrixReport) -> str:
    """The page: verdict, differences, plots, flips, pairs and environment."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reformer_export.verification.matrix", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    model = report.model
    errors = [row.fixed_error for c in report.running for row in c.rows]
    axes = Axes(report.lengths, errors, report.tolerance.output)
    rendered: str = environment.get_template("page.html.j2").render(
        title=f"Parity matrix: {model['architecture']}, {model['task']}, {model['dtype']}",
        report=report,
        errors=[_errors(report, contender) for contender in report.running],
        flips=[_flips(report, contender) for contender in report.running],
        pairs=_pairs(report),
        axes=axes,
        plots=[error_plot(contender, axes, report.lengths) for contender in report.running],
        environment=list(_environment(report)),
        files=_files,
    )
    return rendered


def _errors(report: MatrixReport, contender: Contender) -> Row:
    cells = []
    for length in report.lengths:
        rows = contender.at(length)
        why = "; ".join(miss for row in rows for miss in row.misses)
        cells.append(Cell(cell(rows), not all(row.passed for row in rows), why))
    return Row(contender.name, tuple(cells))


def _flips(report: MatrixReport, contender: Contender) -> Row:
    cells = []
    for length in report.lengths:
        rows = contender.at(length)
        flips, decisions = (sum(getattr(r, k) for r in rows) for k in ("flips", "decisions"))
        clearest = max((row.flip_margin for row in rows), default=0.0)
        text = f"{flips:,} of {decisions:,}" + (f", {number(clearest)}" if flips else "")
        cells.append(Cell(text if decisions else "not hashed"))
    return Row(contender.name, tuple(cells))


def _pairs(report: MatrixReport) -> dict[str, Any]:
    """A triangular table: each runtime has a row, with a column for each runtime before it."""
    names = list(dict.fromkeys(n for pair in report.pairs for n in (pair.first, pair.second)))
    body = []
    for row, name in enumerate(names[1:], start=1):
        cells = []
        for other in names[:row]:
            met = [p for p in report.pairs if (p.first, p.second) == (other, name)]
            errors = [p.error for p in met if p.error is not None]
            unequal = sum(p.inputs - p.equal for p in met)
            text = number(max(errors, default=None)) + (f", {unequal} unequal" if unequal else "")
            cells.append(Cell(text, not all(p.passed for p in met)))
        body.append(Row(name, tuple(cells)))
    return {"header": ("", *names[:-1]), "rows": body}


def _environment(report: MatrixReport) -> Iterator[tuple[str, str]]:
    for name, value in report.environment.items():
        if isinstance(value, Mapping):
            yield name, ", ".join(f"{key} {item}" for key, item in value.items())
        else:
            yield name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
    for contender in (report.reference, *report.running):
        yield contender.name, contender.description or ""


def _files(artifact: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "manifest.json", f"sha256 {artifact['manifest_sha256']}"
    for name, digest in artifact["files"].items():
        yield name, f"sha256 {digest}"
