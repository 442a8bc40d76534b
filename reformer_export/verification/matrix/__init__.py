"""Compares the outputs of a model in all runtimes with each other."""

from __future__ import annotations

from reformer_export.verification.matrix.compare import verify_matrix
from reformer_export.verification.matrix.files import write_matrix
from reformer_export.verification.matrix.report import Contender, MatrixReport, PairRow

__all__ = ["Contender", "MatrixReport", "PairRow", "verify_matrix", "write_matrix"]
