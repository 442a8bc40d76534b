"""A slim wheel lacks only the code that its one GPU does not need."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from . import slim_wheel, wheels
from .elf import library

CODE = {target: bytes([target]) * 24 for target in (70, 80, 90, 120)}
OLD = [(target, CODE[target]) for target in (70, 80)]
NEW = [(target, CODE[target]) for target in (80, 90, 120)]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "some_package-1.2-cp312-cp312-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some/kernels.so", library([NEW]))
        archive.writestr("some/plain.so", library([NEW], section=".rodata"))
        archive.writestr("some/__init__.py", "ANSWER = 42\n")
    return path


def test_code_for_the_target_stays_and_the_rest_is_zeros() -> None:
    whole = library([NEW, OLD])
    found = bytearray(whole)
    # The second container has nothing for 90, so it keeps its newest older code, for 80.
    assert slim_wheel.keep_target(found, 90) == 3 * 24
    assert len(found) == len(whole)
    assert found == library([[(t, CODE[t] if t == 90 else bytes(24)) for t, _ in NEW],
                             [(t, CODE[t] if t == 80 else bytes(24)) for t, _ in OLD]])  # fmt: skip


def test_nothing_is_kept_where_all_is_for_later_gpus() -> None:
    found = bytearray(library([[(120, CODE[120])]]))
    assert slim_wheel.keep_target(found, 90) == 24
    assert CODE[120] not in found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a library at all", "no 64-bit ELF"),
        (library([NEW], section=".text"), "has no .nv_fatbin"),
    ],
)
def test_what_has_no_kernels_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        slim_wheel.keep_target(bytearray(content), 90)
    assert not slim_wheel.has_kernels(content)


def test_two_halves_in_two_calls_make_the_package_again(
    wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = tmp_path / "a", tmp_path / "b"
    arguments = [str(wheel), "--target", "90", "--first", str(halves[0]), "--rest", str(halves[1])]
    assert slim_wheel.main(arguments) == 0
    assert capsys.readouterr().out.count(" bytes\n") == 2
    with tarfile.open(halves[0] / "some_package-1.2.kernels.tar.xz") as first:
        assert first.getnames() == ["some/kernels.so"]
    to = tmp_path / "to"
    for half in reversed(halves):
        assert wheels.main([str(half), str(to)]) == 0
    with zipfile.ZipFile(wheel) as archive:
        for name in ("some/plain.so", "some/__init__.py"):
            assert (to / name).read_bytes() == archive.read(name)
    slimmed = (to / "some/kernels.so").read_bytes()
    assert slimmed == library([[(t, CODE[t] if t == 90 else bytes(24)) for t, _ in NEW]])
