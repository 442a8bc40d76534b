"""Calls the command line, in this process or in a new one, and reads its output."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from reformer_export.cli.main import main

from ..tools.artifact_fixtures import environment


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only error line on stderr, which is also the last line; stdout must be empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert captured.err.endswith(lines[0] + "\n")
    assert "Traceback" not in captured.err
    return lines[0]


def child(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reformer_export", *map(str, arguments)],
        text=True,
        timeout=120,
        check=False,
        **{"env": environment(), **options},  # type: ignore[call-overload]
    )


def document(
    capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0
) -> dict[str, Any]:
    """The one JSON document that a verb prints with --json."""
    assert main([*map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found
