"""The training text: how it is unpacked, and the errors if it is not available."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import sys
from pathlib import Path

import byte_corpus
import pytest
from byte_corpus import CorpusError, fetch, read_text, split, unpack, xz_bits_per_byte

ROOT = Path(__file__).resolve().parents[2]


def compressed(text: bytes) -> bytes:
    """Packed as `compress` does, without the header: one code of 9 bits per byte of the text."""
    assert len(text) < 250  # then the table stays within 9 bits
    bits = "".join(f"{byte:09b}"[::-1] for byte in text)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))


def archive(*windows: bytes) -> bytes:
    """A bible.data file: a header, the offsets of the windows, the windows."""
    packed = [compressed(window) for window in windows]
    header = b"EC02Compressed Data File".ljust(0x54, b"\0")
    header += (65536).to_bytes(4, "big") + len(packed).to_bytes(4, "big")
    bounds = [len(header) + 4 * (len(packed) + 1)]
    for window in packed:
        bounds.append(bounds[-1] + len(window))
    return header + b"".join(bound.to_bytes(4, "big") for bound in bounds) + b"".join(packed)


def test_windows_are_unpacked_one_after_another() -> None:
    assert unpack(archive(b"In the beginning ", b"God created")) == b"In the beginning God created"


@pytest.mark.parametrize("damaged", [b"", b"another file", archive(b"In the")[:-4] + b"\xff" * 4])
def test_another_archive_is_refused(damaged: bytes) -> None:
    with pytest.raises(CorpusError, match="--data FILE"):
        unpack(damaged)


def test_without_apt_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = shutil.which("sh")
    assert shell
    (tmp_path / "sh").symlink_to(shell)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match=r"there is no apt-get; give a text of your own"):
        fetch()


def test_another_text_in_the_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fake apt-get and dpkg-deb give a package that holds another text."""
    (tmp_path / "bible.data").write_bytes(archive(b"Call me Ishmael."))
    programs = {
        "apt-get": 'case "$*" in *indextargets*) echo "mirror Debian Debian" ;; '
        "*download*) : >any.deb ;; esac",
        "dpkg-deb": f'mkdir -p "$3/usr/lib" && cp "{tmp_path}/bible.data" "$3/usr/lib"',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(CorpusError, match="now holds another text; give a text of your own"):
        fetch()


def test_what_was_fetched_before_must_be_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_corpus, "CACHED", tmp_path / "text")
    (tmp_path / "text").write_bytes(b"In the begi")
    with pytest.raises(CorpusError, match="remove it to have it fetched"):
        read_text()


def test_the_end_is_held_out() -> None:
    assert split(b"abcdefgh", 3) == (b"abcde", b"fgh")
    with pytest.raises(CorpusError, match="8 bytes, and the last 5 are held out"):
        split(b"abcdefgh", 5)


def test_xz_is_what_the_tool_makes() -> None:
    text = (ROOT / "LICENSE").read_bytes()
    size = len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    if shutil.which("xz"):
        size = len(subprocess.run(["xz", "-9e"], input=text, capture_output=True).stdout)
    assert xz_bits_per_byte(text) == 8 * size / len(text)
    assert xz_bits_per_byte(text, before=text) < xz_bits_per_byte(text) / 10


@pytest.mark.slow  # takes seconds, but needs the network
def test_the_package_holds_the_text(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples/byte_corpus.py", tmp_path / "text"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot fetch" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "text").read_bytes().startswith(b"Holy Bible, Authorized (King James)")
