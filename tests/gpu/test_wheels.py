"""Wheels and parts of wheels are unpacked, from a folder and from folders directly below it."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from . import wheels


def write_wheel(path: Path, **files: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)


def write_part(path: Path, name: str, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))


def test_all_that_is_there_is_unpacked_beside_each_other(tmp_path: Path) -> None:
    write_wheel(tmp_path / "in/one-1-py3-none-any.whl", one="1")
    write_part(tmp_path / "in/below/two.kernels.tar.xz", "two.py", "2")
    (tmp_path / "in/read.me").touch()
    to = tmp_path / "to"
    to.mkdir()
    (to / "before.py").write_text("0")
    names = wheels.unpack(tmp_path / "in", to)
    assert sorted(names) == ["one-1-py3-none-any.whl", "two.kernels.tar.xz"]
    found = {path.name: path.read_text() for path in to.iterdir()}
    assert found == {"before.py": "0", "one.py": "1", "two.py": "2"}


def test_a_part_cannot_write_elsewhere(tmp_path: Path) -> None:
    write_part(tmp_path / "in/bad.tar.xz", "../outside.py", "!")
    with pytest.raises(tarfile.OutsideDestinationError):
        wheels.unpack(tmp_path / "in", tmp_path / "to")
    assert not (tmp_path / "outside.py").exists()


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_wheel(tmp_path / "in/one-1-py3-none-any.whl", one="1")
    (tmp_path / "empty").mkdir()
    assert wheels.main([str(tmp_path / "in"), str(tmp_path / "to")]) == 0
    assert "one-1-py3-none-any.whl" in capsys.readouterr().out
    assert wheels.main([str(tmp_path / "empty"), str(tmp_path / "to")]) == 1
    assert "nothing found to unpack" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        wheels.main([str(tmp_path / "nowhere"), str(tmp_path / "to")])
