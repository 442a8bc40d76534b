"""Writes a matrix report as files: JSON for programs and HTML for people."""

from __future__ import annotations

import json
from pathlib import Path

from reformer_export.artifact.staging import atomic_file
from reformer_export.errors import ExportError, UsageError
from reformer_export.verification.matrix.page import page
from reformer_export.verification.matrix.report import MatrixReport

DOCUMENT, PAGE = "matrix.json", "matrix.html"


def prepare_folder(folder: Path) -> None:
    """Create the output folder before the comparison; UsageError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: {error.strerror}; name a folder") from error


def write_matrix(folder: Path, report: MatrixReport) -> list[Path]:
    """Write matrix.json and matrix.html, each atomically; returns their paths.

    Raises:
        ExportError: a file cannot be written.
    """
    document = json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n"
    written = []
    for name, text in ((DOCUMENT, document), (PAGE, page(report))):
        try:
            with atomic_file(folder / name) as file:
                file.write(text.encode())
        except OSError as error:
            raise ExportError(f"cannot write {folder / name}: {error.strerror}") from error
        written.append(folder / name)
    return written
