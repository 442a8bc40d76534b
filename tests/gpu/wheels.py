"""Unpacks packages for a machine without a network, from wheels or parts of wheels.

    python3 -m tests.gpu.wheels DIR TO

unpacks all wheels (`*.whl`) and all parts that `tests.gpu.slim_wheel` made (`*.tar.xz`) in DIR, and
in folders directly below it, into TO. Then add TO to PYTHONPATH. The parts of a wheel may be
unpacked one after another: files that are already in TO stay.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WHEEL, PART = ".whl", ".tar.xz"


def found(folder: Path) -> list[Path]:
    """Wheels and parts in a folder and in folders directly below it, sorted by path."""
    files = [*folder.glob("*"), *folder.glob("*/*")]
    return sorted(path for path in files if path.is_file() and path.name.endswith((WHEEL, PART)))


def unpack(folder: Path, to: Path) -> list[str]:
    """Unpack wheels and parts in `folder` into `to`; returns the names of the unpacked files.

    Raises:
        OSError, tarfile.TarError, zipfile.BadZipFile: a file is damaged, or the disk is full.
    """
    to.mkdir(parents=True, exist_ok=True)
    archives = found(folder)
    with ThreadPoolExecutor() as pool:  # decompressing lets other threads run
        list(pool.map(lambda path: _unpack(path, to), archives))
    return [path.name for path in archives]


def _unpack(archive: Path, to: Path) -> None:
    if archive.name.endswith(WHEEL):
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(to)
    else:
        with tarfile.open(archive, "r:xz") as part:
            part.extractall(to, filter="data")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command above."""
    parser = argparse.ArgumentParser(prog="tests.gpu.wheels", description="Unpack wheels.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("to", type=Path, metavar="TO")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    names = unpack(options.folder, options.to)
    print(f"{options.to}: {', '.join(names) or 'nothing found to unpack'}")
    return 0 if names else 1


if __name__ == "__main__":
    sys.exit(main())
