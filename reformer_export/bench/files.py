"""Writing the results of a benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reformer_export.artifact.staging import atomic_file
from reformer_export.bench.generation import GenerationReport
from reformer_export.bench.ops import OpsReport
from reformer_export.bench.plots import check_plotting, plot_models, plot_ops
from reformer_export.bench.report import BenchReport
from reformer_export.errors import UsageError

RESULTS = "results.json"


def prepare_folder(folder: Path) -> None:
    """Make the folder and check that plots can be drawn, before anything is measured.

    Raises:
        UsageError: `folder` is a file.
        MissingDependencyError: matplotlib is not installed.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: that is a file; name a folder")
    check_plotting()
    folder.mkdir(parents=True, exist_ok=True)


def write_results(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write results.json, completely or not at all; returns its path."""
    path = folder / RESULTS
    with atomic_file(path) as file:
        file.write((json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    return path


def write_report(folder: Path, report: BenchReport | GenerationReport | OpsReport) -> list[Path]:
    """Write results.json and the plot of a report, if it has one; returns their paths."""
    written = [write_results(folder, report.to_json())]
    if isinstance(report, GenerationReport):
        return written
    if isinstance(report, BenchReport):
        written.append(plot_models(report.results, folder / "bench.png", report.title))
    else:
        written.append(plot_ops(report.results, folder / "ops.png", report.title))
    return written
