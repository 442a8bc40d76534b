"""README's commands do what README says: each block is run as it stands, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def test_every_block_runs(tmp_path: Path) -> None:
    for name in ("LICENSE", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for language, code in BLOCKS:
        if code.startswith("pip install"):
            continue  # from an index this project is not on yet; test_packaging builds the wheel
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
    table = (ROOT / "README.md").read_text().split("## The code")[1].split("Imports go")[0]
    folders = re.findall(r"^\| `([\w/]+?)(?:/\*\.py)?` \|", table, re.M)
    assert len(folders) >= 8
    for folder in folders:
        assert (ROOT / folder).is_dir(), folder
