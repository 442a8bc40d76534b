"""The commands of README.md work: each block runs unchanged, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
# Each of these takes ten seconds or more.
SLOW = r"^reformer-export (to-tensorrt|add-kernels|verify .*--matrix) .*\n"


@pytest.mark.parametrize("every_line", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_block_runs(every_line: bool, tmp_path: Path) -> None:
    """The first run leaves out the slow lines."""
    for name in ("LICENSE", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for language, code in BLOCKS:
        if code.startswith("pip install"):
            continue  # test_packaging builds the wheel
        if not every_line:
            code = re.sub(SLOW, "", code, flags=re.M)
        interpreter = ["bash", "-eu"] if language == "bash" else [sys.executable]
        done = subprocess.run(
            interpreter,
            input=code,
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    assert {language for language, _ in BLOCKS} == {"bash", "python"}
    assert (tmp_path / "logits.npz").is_file()


def test_the_map_of_the_code_names_what_exists() -> None:
    table = (ROOT / "docs/architecture.md").read_text().split("## The map")[1].split("## Floors")[0]
    named = re.findall(r"^\| `([\w/]+)`", table, re.M)
    assert len(named) >= 12
    for path in named:
        assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), path


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in link:
            assert (document.parent / link).exists(), link


def test_every_document_is_linked_from_readme() -> None:
    linked = set(re.findall(r"\(docs/([\w-]+\.md)", (ROOT / "README.md").read_text()))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")}
