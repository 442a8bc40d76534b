"""The files of an operator are those that custom_ops/README.md lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import reformer_ops
from reformer_ops.registry import ALL, FUSED, LINEAR, OPS, QUANTISED, STEPS

OPERATORS = Path(reformer_ops.__file__).parent
ROOT = OPERATORS.parents[1]
CMAKE = (OPERATORS.parent / "CMakeLists.txt").read_text()
(LAYERS,) = re.findall(r"^set\(REFORMER_LAYERS ([^)]+)\)", CMAKE, re.M)

FOLDERS: Mapping[str, tuple[str, ...]] = {
    "model": tuple(op.torch_name for op in OPS),
    "step": tuple(op.torch_name for op in STEPS),
    "quantised": tuple(op.torch_name for op in QUANTISED),
    "fused": tuple(op.torch_name for op in FUSED),
    "linear": tuple(op.torch_name for op in LINEAR),
    "training": tuple(layer.removeprefix("training/") for layer in LAYERS.split()),
}
by_kind = pytest.mark.parametrize("kind", FOLDERS)


def folder_of(name: str) -> Path:
    (folder,) = (path for path in OPERATORS.rglob(name) if path.is_dir())
    return folder


def table(title: str) -> dict[str, dict[str, str]]:
    """The README's table under `title`: "yes", "may" or "" by file and kind."""
    readme = (OPERATORS.parent / "README.md").read_text()
    section = readme.split(f"### {title}\n")[1].split("\n#")[0]
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    assert head[1:-1] == list(FOLDERS)
    found = {row[0].strip("`"): dict(zip(head[1:-1], row[1:-1], strict=True)) for row in rows}
    assert len(found) == len(rows) > 5
    assert {mark for row in found.values() for mark in row.values()} <= {"yes", "may", ""}
    return found


def test_every_folder_is_of_one_kind() -> None:
    named = [name for names in FOLDERS.values() for name in names]
    assert len(set(named)) == len(named)
    files = ("kernel.cpp", "spec.py", "bind_torch.cpp", "bind_ort.cpp", "torch_op.py")
    found = {path.parent.name for file in files for path in OPERATORS.glob(f"**/{file}")}
    shared = {OPERATORS.name, "core"}  # core/spec.py is what the others use
    assert found - shared == set(named)


@by_kind
def test_a_folder_has_the_files_that_are_listed(kind: str) -> None:
    rows = table("Files of an operator's folder")
    needed = {file for file, row in rows.items() if row[kind] == "yes"}
    allowed = {file for file, row in rows.items() if row[kind]}
    for name in FOLDERS[kind]:
        files = {path.name for path in folder_of(name).iterdir() if path.name != "__pycache__"}
        assert files >= needed, (name, needed - files)
        assert files <= allowed, (name, files - allowed)


def test_no_file_is_listed_in_vain() -> None:
    for file, row in table("Files of an operator's folder").items():
        for kind, mark in row.items():
            held = [name for name in FOLDERS[kind] if (folder_of(name) / file).is_file()]
            assert bool(mark) == bool(held), (file, kind, held)


@by_kind
def test_files_outside_the_folder_name_the_operator(kind: str) -> None:
    onnx_names = {op.torch_name: op.name for op in ALL}
    for file, row in table("Files outside the folder").items():
        places = [ROOT / file] if "/" in file else [*OPERATORS.parent.rglob(file)]
        (path,) = (place for place in places if place.is_file())
        text = path.read_text()
        for name in FOLDERS[kind] if row[kind] == "yes" else ():
            spelled = rf"\b({name}|{onnx_names.get(name, name)})\b"
            assert re.search(spelled, text), (file, name)
