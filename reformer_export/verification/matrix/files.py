"""Where a matrix is left: a document for programs and a page for people."""

from __future__ import annotations

import json
from pathlib import Path

from reformer_export.artifact.staging import atomic_file
from reformer_export.errors import ExportError, UsageError
from reformer_export.verification.matrix.page import page
from reformer_export.verification.matrix.report import MatrixReport

DOCUMENT, PAGE = "matrix.json", "matrix.html"


def prepare_folder(folder: Path) -> None:
    """Make the folder before anything is compared; UsageError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: {error.strerror}; name a folder") from error


def write_matrix(folder: Path, report: MatrixReport) -> list[Path]:
    """matrix.json and matrix.html, each whole or not at all; returns their paths.

    Raises:
        ExportError: they cannot be written.
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
