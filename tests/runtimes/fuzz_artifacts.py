"""Damages artifacts and opens them in both languages: fuzz_artifacts.py LIBRARY FIRST LAST.

Prints a line for each damage, with its number and the results of the readers, and at the end the
counts. A crash ends this process, so the caller must check its exit code.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import read_raw_manifest, record_files
from reformer_export.errors import ArtifactError
from tests.runtimes.programs import library
from tests.tools.artifact_fixtures import make_artifact

HOSTILE = (
    *("..", "../outside", "/etc/passwd", "a/b", "x" * 5000, "", "\0", "model.onnx", "é\u2028"),
    *(0, -1, 2**31, 2**63, 2**64, 10**30, 1.5, 1e308, True, None, [], {}, [[[]]], {"a": {}}),
)


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def splice(data: bytes, rng: random.Random) -> bytes:
    """Write a piece of the data, or a far too large Protocol Buffers number, at a random place."""
    at, start = rng.randrange(len(data)), rng.randrange(len(data))
    piece = rng.choice((data[start : start + 200], b"\xff" * 9 + b"\x01", b"\x80" * 12))
    return data[:at] + piece + data[at + rng.choice((0, len(piece))) :]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip_bits, cut, splice)


def swap_value(node: object, rng: random.Random) -> None:
    """Change a value or a key at a random place of a JSON document."""
    while True:
        children = list(node.items() if isinstance(node, dict) else enumerate(node))  # type: ignore[arg-type]
        if not children:
            return
        key, value = rng.choice(children)
        if isinstance(value, (dict, list)) and rng.random() < 0.8:
            node = value
            continue
        if isinstance(node, dict) and rng.random() < 0.3:
            node[str(rng.choice(HOSTILE))] = node.pop(key)
        else:
            node[key] = rng.choice(HOSTILE)  # type: ignore[index]
        return


def swap_file(folder: Path, rng: random.Random) -> None:
    """Replace one of the files by something else with the same name."""
    path = rng.choice([path for path in folder.iterdir() if not path.is_symlink()])
    path.rename(folder.parent / "outside")
    rng.choice(
        (
            lambda: path.symlink_to("../outside"),
            lambda: path.symlink_to(path.name),
            lambda: path.symlink_to("/dev/zero"),
            lambda: path.symlink_to("absent"),
            lambda: path.mkdir(),
            lambda: os.mkfifo(path),
            lambda: path.touch(),
        )
    )()


def hide_tensor(model: onnx.ModelProto, rng: random.Random) -> None:
    """Give an external tensor a hostile location, size or type."""
    tensor = model.graph.initializer[0]
    entries = {entry.key: entry for entry in tensor.external_data}
    chosen = rng.choice(("location", "offset", "length", "dims", "type"))
    if chosen == "dims":
        tensor.dims[0] = rng.choice((-1, 0, 2**40, 2**62, 2**63 - 1))
    elif chosen == "type":
        tensor.data_type = rng.choice((0, 8, 11, 14, 15, 22, 26, 27, 999))
    else:
        value = rng.choice((*HOSTILE, "18446744073709551615", "1" * 40, "+1", " 1", "0x10"))
        entries.get(chosen, tensor.external_data.add(key=chosen)).value = str(value)


def reseal(folder: Path) -> None:
    """Make the manifest agree with the files, as a forger would."""
    raw = read_raw_manifest(folder / "manifest.json")
    assert isinstance(raw, dict)
    raw["files"] = {
        name: {"sha256": record.sha256, "bytes": record.bytes}
        for name, record in record_files(folder).items()
    }
    (folder / "manifest.json").write_text(json.dumps(raw))


def damage(folder: Path, rng: random.Random) -> str:
    """Damage the artifact; returns a description of the damage."""
    manifest, graph = folder / "manifest.json", folder / "model.onnx"
    match rng.randrange(6):
        case 0:
            path, change = rng.choice((manifest, graph)), rng.choice(BYTES)
            path.write_bytes(change(path.read_bytes(), rng))
            return f"{change.__name__} {path.name}"
        case 1 | 2:
            raw = read_raw_manifest(manifest)
            for _ in range(rng.choice((1, 1, 3))):
                swap_value(raw, rng)
            manifest.write_text(json.dumps(raw))
            return "swap_value"
        case 3:
            change = rng.choice(BYTES)
            graph.write_bytes(change(graph.read_bytes(), rng))
            reseal(folder)
            return f"{change.__name__} resealed"
        case 4:
            model = onnx.load(graph, load_external_data=False)
            hide_tensor(model, rng)
            graph.write_bytes(model.SerializeToString())
            reseal(folder)
            return "hide_tensor"
        case _:
            swap_file(folder, rng)
            return "swap_file"


def main(path: str, first: str, last: str) -> None:
    lib = library(Path(path))
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        sound = make_artifact(Path(place) / "sound", external=True, vocab_size=256)
        for number in range(int(first), int(last)):
            rng = random.Random(number)
            folder = Path(place) / str(number) / "artifact"
            shutil.copytree(sound, folder)
            what = damage(folder, rng)
            outside = folder.parent / "outside"
            if not outside.exists():
                os.mkfifo(outside)  # opening it would block
            try:
                Artifact.open(folder)
                python = "sound"
            except ArtifactError:
                python = "refused"
            status = lib.reformer_check(bytes(folder))
            cpp = {0: "sound", 2: "refused"}.get(status, f"status {status}")
            message = lib.reformer_last_error().decode()  # valid UTF-8 for every damage
            print(number, what, python, cpp, message if cpp != "sound" else "", flush=True)
            assert "\n" not in message
            counts[f"{what.split()[0]}: {python} by Python, {cpp} by C++"] += 1
            shutil.rmtree(folder.parent)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
