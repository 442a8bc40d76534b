"""A matrix as one HTML page that needs nothing beside it: to be attached to a release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from reformer_export.verification.matrix.plot import Axes, error_plot
from reformer_export.verification.matrix.report import Contender, MatrixReport, cell, number

_STYLE = """
:root { --ink: #1c2430; --soft: #5d6b7e; --line: #dfe5ec; --paper: #fff; --tint: #f5f8fb;
  --ok: #16734a; --bad: #b3261e; --mark: #2563a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --soft: #97a5b8; --line: #303a48;
  --paper: #141a22; --tint: #1b232e; --ok: #5fca94; --bad: #ff8a80; --mark: #7ab2f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 68rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 2.5rem 0 .5rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
.soft, figcaption span { color: var(--soft); }
.verdict { border-left: 4px solid var(--ok); background: var(--tint); padding: .6rem .9rem;
  margin: 1rem 0; }
.verdict.bad { border-color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; }
td.miss { color: var(--bad); font-weight: 600; }
td.wrap { white-space: normal; overflow-wrap: anywhere; }
.plots { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; } figcaption span { font-weight: 400; }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--line); } .bound { stroke: var(--bad); stroke-dasharray: 4 3; }
.worst { fill: none; stroke: var(--mark); stroke-width: 1.5; }
.dot { fill: var(--mark); } .dot.miss { fill: var(--bad); }
.tick { fill: var(--soft); font-size: 10px; text-anchor: end; } .foot { text-anchor: middle; }
"""


def page(report: MatrixReport) -> str:
    """The page: verdict, differences, plots, flips, pairs, what it was all run on."""
    model = report.model
    title = f"Parity matrix: {model['architecture']}, {model['task']}, {model['dtype']}"
    sections = "".join(_sections(report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        f"<h1>{escape(title)}</h1>"
        f'<p class="soft">{escape(str(model["source"]))} &middot; {escape(report.created)}</p>'
        f'<div class="verdict{"" if report.passed else " bad"}">{escape(report.summary)}.</div>'
        f"{sections}</body></html>\n"
    )


def _sections(report: MatrixReport) -> Iterator[str]:
    reference = f"{report.reference.name} ({report.reference.description})"
    bound = number(report.tolerance.output)
    yield (
        f"<h2>Against the model in {escape(reference)}</h2>"
        "<p>The largest difference of any output, relative to that output's largest magnitude, "
        "with both sides using the same hash buckets. It may be "
        f"{bound} at most{_half(report)}.</p>"
    )
    yield _table(report.header, (_error_cells(report, c) for c in report.running))
    yield "".join(f'<p class="soft">{escape(line)}</p>' for line in report.absent())
    yield "<h2>By length</h2><p>A dot for each input; the line joins the worst of each length. "
    yield "The dashed line is what they are held to.</p>"
    yield f'<div class="plots">{"".join(_plots(report))}</div>'
    yield (
        "<h2>Bucket flips</h2><p>Hashing is a step function. A decision may go the other way "
        "where best and second best are within "
        f"{number(report.tolerance.flip_margin)} of a usual projection: flips of all decisions, "
        "and how clear the clearest of them was.</p>"
    )
    yield _table(report.header, (_flip_cells(report, c) for c in report.running))
    yield (
        "<h2>Each against each</h2><p>Every runtime left to itself: the largest difference over "
        "all lengths where both hashed alike, and how many inputs they did not hash alike on.</p>"
    )
    yield _pairs(report)
    yield "<h2>What it was run on</h2>"
    rows: list[tuple[str, ...]] = [*_facts(report.environment)]
    rows += [(c.name, c.description or "") for c in (report.reference, *report.running)]
    yield _plain(rows)
    yield "<h2>The files</h2>"
    for artifact in report.artifacts:
        files = {"manifest.json": artifact["manifest_sha256"], **artifact["files"]}
        yield f"<p>{escape(str(artifact['path']))}</p>"
        yield _plain([(name, f"sha256 {digest}") for name, digest in files.items()])


def _half(report: MatrixReport) -> str:
    if report.model["dtype"] != "fp16":
        return ""
    return ", and no more than twice what plain torch in fp16 differs from fp32"


def _error_cells(report: MatrixReport, contender: Contender) -> Iterator[str]:
    yield f"<th>{escape(contender.name)}</th>"
    for length in report.lengths:
        rows = contender.at(length)
        missed = not all(row.passed for row in rows)
        why = "; ".join(miss for row in rows for miss in row.misses)
        mark = f' class="miss" title="{escape(why, quote=True)}"' if missed else ""
        yield f"<td{mark}>{escape(cell(rows))}</td>"


def _flip_cells(report: MatrixReport, contender: Contender) -> Iterator[str]:
    yield f"<th>{escape(contender.name)}</th>"
    for length in report.lengths:
        rows = contender.at(length)
        flips, decisions = (sum(getattr(r, k) for r in rows) for k in ("flips", "decisions"))
        clearest = max((row.flip_margin for row in rows), default=0.0)
        text = f"{flips:,} of {decisions:,}" + (f", {number(clearest)}" if flips else "")
        yield f"<td>{text if decisions else 'not hashed'}</td>"


def _plots(report: MatrixReport) -> Iterator[str]:
    errors = [row.fixed_error for c in report.running for row in c.rows]
    axes = Axes(report.lengths, errors, report.tolerance.output)
    for contender in report.running:
        yield (
            f"<figure>{error_plot(contender, axes, report.lengths)}"
            f"<figcaption>{escape(contender.name)}</figcaption></figure>"
        )


def _pairs(report: MatrixReport) -> str:
    names = list(dict.fromkeys(n for pair in report.pairs for n in (pair.first, pair.second)))
    body = []
    for row, name in enumerate(names[1:], start=1):
        cells = [f"<th>{escape(name)}</th>"]
        for other in names[:row]:
            met = [p for p in report.pairs if (p.first, p.second) == (other, name)]
            errors = [p.error for p in met if p.error is not None]
            unequal = sum(p.inputs - p.equal for p in met)
            text = number(max(errors, default=None)) + (f", {unequal} unequal" if unequal else "")
            mark = "" if all(p.passed for p in met) else ' class="miss"'
            cells.append(f"<td{mark}>{escape(text)}</td>")
        body.append(cells)
    return _table(("", *names[:-1]), body)


def _facts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield name, ", ".join(f"{key} {item}" for key, item in value.items())
        else:
            yield name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)


def _table(header: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _plain(rows: Iterable[Sequence[str]]) -> str:
    body = "".join(
        f'<tr><th>{escape(label)}</th><td class="wrap">{escape(text)}</td></tr>'
        for label, text in rows
    )
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'
