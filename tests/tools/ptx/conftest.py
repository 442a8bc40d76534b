"""The emulator's own tests run in `make test-all`, and in `make test` if the emulator changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if FOLDER in item.path.parents]
    if mine and not _changed():
        for item in mine:
            item.add_marker(pytest.mark.slow)


def _changed() -> bool:
    """True if the last commit or the working tree changes the emulator, or if git cannot tell."""
    commands = (
        ["git", "status", "--porcelain", "--", "."],
        ["git", "diff", "--name-only", "HEAD~1", "--", "."],
    )
    results = [
        subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
        for command in commands
    ]
    return any(done.returncode != 0 or done.stdout.strip() for done in results)
