"""Runs a model in any runtime: `open_runner` and the `Runner` protocol."""

from __future__ import annotations

from reformer_export.runtimes.base import Probe, ProbingRunner, Runner, ShowingRunner
from reformer_export.runtimes.registry import RUNTIMES, open_folder, open_runner

__all__ = [
    "RUNTIMES",
    "Probe",
    "ProbingRunner",
    "Runner",
    "ShowingRunner",
    "open_folder",
    "open_runner",
]
