"""The default text of `train_bytes.py`: the King James Bible.

    python examples/byte_corpus.py FILE      # fetches the text and writes it there

Taken from Debian's package bible-kjv-text 4.38, file /usr/lib/bible.data, whose copyright file says
of the text: "The copyright for the King James Version text of the Bible is expired since the
translation was done in 1611 under King James the first of Great Britain." 4,404,475 bytes of ASCII,
a verse a line ("Ge1:1 In the beginning ..."). In the United Kingdom printing the text is a right of
the Crown; do not print this copy.
"""

from __future__ import annotations

import hashlib
import itertools
import lzma
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from reformer_export.artifact.staging import atomic_file

ROOT = Path(__file__).resolve().parent.parent
CACHED = ROOT / "build/data/bible-kjv.txt"

PACKAGE, SUITE, MEMBER = "bible-kjv-text", "bookworm", "usr/lib/bible.data"
SHA256 = "e53aaf0af1e58f259e35d0d9f7ca1bbe154fd77bb95471279b37b34d3c397a98"

DESCRIPTION = """\
The King James Version of the Bible, from Debian's package bible-kjv-text 4.38, file
`usr/lib/bible.data`, unpacked by `examples/byte_corpus.py`. Public domain: in the words of the
package's copyright file, "The copyright for the King James Version text of the Bible is expired
since the translation was done in 1611". (In the United Kingdom printing it is a right of the
Crown.)"""
"""Describes the Bible's text in a model card."""

HELD_OUT_BYTES = 131072
"""Bytes at the end of a text that are not trained on: in the Bible, Hebrews 11:29 to the end."""


class CorpusError(Exception):
    """There is no text to train on; the message states the reason and what to do."""


def read_text(data: Path | None = None) -> bytes:
    """Read the text of a file or, by default, the Bible, which is fetched once (2.4 MB).

    Raises:
        CorpusError: the file cannot be read, or the package cannot be fetched.
    """
    if data is None and not CACHED.exists():
        CACHED.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(CACHED) as file:
            file.write(fetch())
    path = CACHED if data is None else data
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}; name another file") from error
    if data is None and hashlib.sha256(text).hexdigest() != SHA256:
        raise CorpusError(f"{path} was changed or is incomplete: remove it to have it fetched")
    return text


def split(text: bytes, held_out: int = HELD_OUT_BYTES) -> tuple[bytes, bytes]:
    """Returns the text to train on, and the last `held_out` bytes.

    Raises:
        CorpusError: the text is shorter than twice `held_out`.
    """
    if len(text) < 2 * held_out:
        raise CorpusError(
            f"the text has {len(text):,} bytes, and the last {held_out:,} are held out: give a "
            f"text of at least {2 * held_out:,} bytes, or hold out less with --held-out"
        )
    return text[:-held_out], text[-held_out:]


def xz_bits_per_byte(text: bytes, before: bytes = b"") -> float:
    """Bits per byte of a text in `xz -9e`; with `before`, what the text adds to an archive of that.

    Python's lzma with the same preset gives the same bytes as the xz tool.
    """
    sizes = [_xz_size(before + text), _xz_size(before) if before else 0]
    return 8 * (sizes[0] - sizes[1]) / len(text)


def _xz_size(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def fetch() -> bytes:
    """Fetch the Bible's text in Debian's package, from the mirror that this machine's apt uses.

    Raises:
        CorpusError: apt, the network or the package is missing, or the package has another text.
    """
    with tempfile.TemporaryDirectory() as folder:
        tool = ROOT / "custom_ops/cmake/fetch_debian.sh"
        done = subprocess.run(
            ["sh", str(tool), folder, SUITE, PACKAGE],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stdout.strip().splitlines() or ["no reason given"])[-1]
            raise CorpusError(_remedy(f"cannot fetch Debian's package {PACKAGE}: {reason}"))
        text = unpack((Path(folder) / MEMBER).read_bytes())
    if hashlib.sha256(text).hexdigest() != SHA256:
        raise CorpusError(_remedy(f"Debian's package {PACKAGE} now holds another text"))
    return text


def unpack(archive: bytes) -> bytes:
    """The text in bible.data: windows of 64 KiB, packed by `compress` and without its header.

    Numbers are big-endian. At 0x54 are the size of a window and the number of windows; then the
    start of each window and the end of the last.

    Raises:
        CorpusError: the file has another format.
    """
    if not archive.startswith(b"EC02Compressed Data File"):
        raise CorpusError(_remedy(f"{MEMBER} is not a compressed text in the known format"))
    _, count = struct.unpack_from(">II", archive, 0x54)
    bounds = struct.unpack_from(f">{count + 1}I", archive, 0x5C)
    windows = []
    for start, end in itertools.pairwise(bounds):
        packed = b"\x1f\x9d\x90" + archive[start:end]
        done = subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=False)
        if done.returncode:
            raise CorpusError(_remedy(f"gzip cannot unpack {MEMBER}: {done.stderr.decode()}"))
        windows.append(done.stdout)
    return b"".join(windows)


def _remedy(problem: str) -> str:
    return f"{problem.strip()}; give a text of your own with --data FILE"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/byte_corpus.py FILE")
    try:
        with atomic_file(sys.argv[1]) as output:
            output.write(read_text())
    except (CorpusError, OSError) as problem:
        sys.exit(f"error: {problem}")
