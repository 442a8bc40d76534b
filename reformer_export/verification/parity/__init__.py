"""Checks in stages that a runtime computes the same numbers as the model."""

from __future__ import annotations

from reformer_export.verification.parity.report import ParityReport, ParityRow, Tolerance
from reformer_export.verification.parity.verify import verify_against, verify_artifact

__all__ = ["ParityReport", "ParityRow", "Tolerance", "verify_against", "verify_artifact"]
