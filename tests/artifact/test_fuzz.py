"""Damaged or forged artifacts: refused with an error of one line, or valid as their manifest says.

An audit hook checks that no file outside the artifact's folder is opened.
"""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reformer_export.artifact import Artifact
from reformer_export.artifact.external_data import plain_name
from reformer_export.artifact.manifest import FormatRecord, record_files, write_manifest
from reformer_export.cli.main import main
from reformer_export.errors import ArtifactError, ReformerError
from reformer_export.runtimes import open_runner

from ..tools.artifact_fixtures import environment, make_artifact, manifest

_opened: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], (str, bytes)):
        _opened.append(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(_watch)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Fails if a file of this test outside `folder` is opened."""
    global _opened
    _opened = []
    try:
        yield
    finally:
        opened, _opened = _opened, None
    around = folder.parent.resolve()
    strange = {
        path
        for path in map(Path, opened)
        if path.is_relative_to(around) and not path.is_relative_to(folder.resolve())
    }
    assert not strange


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact in two formats, with external data, and a secret beside it."""
    made = make_artifact(
        tmp_path / "artifact", files={"model.pt": b"PK" * 40, "vocab.txt": b"x"}, external=True
    )
    seal(made)
    (tmp_path / "secret").write_bytes(b"secret")
    return made


def seal(folder: Path) -> None:
    """Make the manifest agree with the files, as a forger would."""
    import dataclasses

    record = FormatRecord(("model.pt",), "native", {"torch": "2.13"}, {"architecture": "z80"})
    files = record_files(folder)
    write_manifest(folder, dataclasses.replace(manifest(files), formats={"torchscript": record}))


def judged(folder: Path, attempt: Callable[[], Any]) -> bool:
    """True if `attempt` succeeded; False if it raised one of our errors."""
    printed = ""
    with watched(folder):
        try:
            attempt()
        except ReformerError as error:
            printed = str(error) or "nothing"
    assert printed != "nothing"
    assert "\n" not in printed
    return not printed


def test_the_watch_sees(folder: Path) -> None:
    with pytest.raises(AssertionError), watched(folder):
        (folder.parent / "secret").read_bytes()


def test_a_bit_anywhere(folder: Path) -> None:
    """A changed bit of a listed file is always found; in the manifest it may stay unnoticed."""
    rng = random.Random(0)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        listed = path.name != "manifest.json"
        for _ in range(40 if listed else 400):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            accepted = judged(folder, lambda: Artifact.open(folder))
            assert not (accepted and listed)
        path.write_bytes(whole)
    assert judged(folder, lambda: Artifact.open(folder))


def test_cut_anywhere(folder: Path) -> None:
    rng = random.Random(1)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        # The newline at the end of a manifest may be missing.
        last = len(whole.rstrip()) if path.name == "manifest.json" else len(whole)
        for size in {0, last - 1, *(rng.randrange(last) for _ in range(20))}:
            path.write_bytes(whole[:size])
            assert not judged(folder, lambda: Artifact.open(folder))
        path.write_bytes(whole)


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, 0.5),
    *("", " ", "x" * 100_000, "\0", "\ud800", "../secret", "/etc/passwd", "..", "con", "a/b"),
    *([], [None], [[]], {}, {"": {}}, {"../secret": {"sha256": "x", "bytes": 6}}),
)


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path (keys and indices) to every value in a JSON document."""
    yield path
    children: Any = ()
    if isinstance(document, dict):
        children = document.items()
    elif isinstance(document, list):
        children = enumerate(document)
    for key, child in children:
        yield from places(child, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return changed


def test_any_value_anywhere_in_the_manifest(folder: Path) -> None:
    """Replaces each value by a third of VALUES, in turn; accepted file names are always plain."""
    path = folder / "manifest.json"
    original = json.loads(path.read_text())
    everywhere = list(places(original))
    assert len(everywhere) > 80
    tried = 0
    for number, place in enumerate(everywhere):
        for value in VALUES[number % 3 :: 3]:
            path.write_text(json.dumps(replaced(original, place, value)))
            found: list[Artifact] = []

            def attempt(found: list[Artifact] = found) -> None:
                found.append(Artifact.open(folder, check_hashes=False))

            if judged(folder, attempt):
                artifact = found[0]
                assert all(plain_name(name) for name in artifact.manifest.files)
                for name in artifact.manifest.formats:
                    assert artifact.format_path(name).parent == folder
                    assert artifact.format_path(name).name in artifact.manifest.files
            tried += 1
    assert tried > 500


def test_any_key_left_out_of_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    original = json.loads(path.read_text())
    for place in places(original):
        if not place or not isinstance(place[-1], str):
            continue
        changed = copy.deepcopy(original)
        target = changed
        for key in place[:-1]:
            target = target[key]
        del target[place[-1]]
        path.write_text(json.dumps(changed))
        judged(folder, lambda: Artifact.open(folder))


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "sub/model.pt", "..", "model.pt\0", "C:model.pt", ""]
)
def test_a_format_in_a_file_elsewhere(folder: Path, name: str) -> None:
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    raw["formats"]["torchscript"]["files"] = [name]
    for listed in (False, True):
        if listed:
            raw["files"][name] = {"sha256": "x", "bytes": 6}
        path.write_text(json.dumps(raw))
        assert not judged(folder, lambda: open_runner(folder, runtime="torchscript"))


@pytest.mark.parametrize("target", ["../secret", "/dev/zero", "model.pt", "vocab.txt/x"])
def test_a_format_that_is_a_link(folder: Path, target: str) -> None:
    (folder / "model.pt").unlink()
    (folder / "model.pt").symlink_to(target)
    assert not judged(folder, lambda: open_runner(folder, runtime="torchscript"))


def test_sizes_beyond_all_memory(folder: Path) -> None:
    """A size in a manifest is only compared; no memory of that size is allocated."""
    path = folder / "manifest.json"
    original = json.loads(path.read_text())
    for name in original["files"]:
        for size in (2**40, 2**63 - 1, 2**64, 10**30):
            raw = copy.deepcopy(original)
            raw["files"][name]["bytes"] = size
            path.write_text(json.dumps(raw))
            with pytest.raises(ArtifactError, match=f"the manifest says {size}"):
                Artifact.open(folder)


def test_a_forged_graph(folder: Path) -> None:
    """Bits of model.onnx change and the manifest agrees: the reader itself must not crash."""
    rng = random.Random(2)
    path = folder / "model.onnx"
    whole = path.read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 4))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(1, len(data))))])
        seal(folder)
        judged(folder, lambda: Artifact.open(folder))


def test_the_command_line_tells_it_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model.pt").write_bytes(b"PK" * 39 + b"PL")
    for verb in ("inspect", "verify"):
        assert main([verb, str(folder)]) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("error: ")
        assert "model.pt has sha256" in lines[-1]


FORGED = """
import random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from reformer_export.errors import ReformerError
from reformer_export.runtimes import open_runner
from tests.artifact.test_fuzz import seal
folder = Path(sys.argv[1])
refused = 0
path = folder / sys.argv[3]
whole = path.read_bytes()
rng = random.Random(3)
for number in range(int(sys.argv[4])):
    data = bytearray(whole)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data if number % 2 else data[:rng.randrange(len(data))])
    seal(folder)
    try:
        open_runner(folder, threads=1).close()
    except ReformerError:
        refused += 1
print("refused", refused)
"""


def test_a_forged_graph_in_a_runtime(tmp_path: Path) -> None:
    """In a new process, which must not crash."""
    folder = make_artifact(tmp_path / "artifact", files={"model.pt": b"x"})
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", FORGED, str(folder), root, "model.onnx", "60"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 30  # the truncated files
