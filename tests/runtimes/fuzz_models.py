"""Opens and runs forged models with matching manifests in the runtimes of both languages:
fuzz_models.py ARTIFACT FILE RUNTIME PROGRAM FIRST LAST.

A hash detects damage, not intent: whoever can write the model can also write the manifest. Prints a
line for each forgery, with its number and the results, and at the end the counts.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from pathlib import Path

from reformer_export.cli.main import main as reformer_export
from tests.runtimes.fuzz_artifacts import BYTES, cut, reseal

PATIENCE = 60  # seconds; a longer run counts as hanging
MEMORY = 6 << 30  # bytes; a forgery must not use all memory of the machine


def forge(path: Path, rng: random.Random) -> str:
    """Change a model; returns a description. Of an archive, the whole file or a member changes."""
    change = rng.choice(BYTES)
    if change is cut or not zipfile.is_zipfile(path) or rng.random() < 0.3:
        path.write_bytes(change(path.read_bytes(), rng))
        return change.__name__
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # Weights may be any numbers, so only members that are read as a program are changed.
    name = rng.choice([name for name in members if "/data/" not in name and members[name]])
    members[name] = change(members[name], rng)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return f"{change.__name__} of {Path(name).suffix or Path(name).name}"


def verdict(code: int, counts: str) -> str:
    """The result of a run, from its exit code (negative for a signal) and its messages."""
    if code < 0:
        return f"died of signal {-code}"
    if code == 0:
        return "ran"
    errors = [line for line in counts.splitlines() if line.startswith("error: ")]
    # Lines of ONNX Runtime's own log may come before the error.
    if code != 1 or len(errors) != 1 or "bug?" in counts or "Traceback" in counts:
        return f"odd: {code} {counts[-2000:]!r}"
    return "refused"


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def in_cpp(program: str, arguments: list[str]) -> str:
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            preexec_fn=limited,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    return verdict(done.returncode, done.stderr)


def in_python(arguments: list[str]) -> str:
    """Run in a fork of this process, which has already imported everything."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                limited()
                os.dup2(said.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                counts = io.StringIO()
                with contextlib.redirect_stderr(counts), contextlib.redirect_stdout(io.StringIO()):
                    code = reformer_export(["run", *arguments])
                os.write(2, counts.getvalue().encode())
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return verdict(os.waitstatus_to_exitcode(status), said.read().decode(errors="replace"))


def main(artifact: str, file: str, runtime: str, program: str, first: str, last: str) -> None:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        for number in range(int(first), int(last)):
            folder = Path(place) / str(number)
            shutil.copytree(artifact, folder)
            what = forge(folder / file, random.Random(number))
            reseal(folder)
            arguments = [str(folder), "--text", "abcdefgh", "--tokenizer", "bytes"]
            arguments += ["--threads", "1", "--runtime", runtime]
            python, cpp = in_python(arguments), in_cpp(program, arguments)
            print(number, what, "|", python, "|", cpp, flush=True)
            counts[f"Python {python[:20]}, C++ {cpp[:20]}"] += 1
            shutil.rmtree(folder)
    print(json.dumps(counts))


if __name__ == "__main__":
    # These are imported before the forks, but start no threads, which a fork would not copy.
    import onnxruntime  # noqa: F401
    import torch

    import reformer_ops.torch_ops  # noqa: F401

    torch.set_num_threads(1)
    main(*sys.argv[1:])
