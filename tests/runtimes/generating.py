"""Helpers for the tests of generation in C++: prompts, and the tokens from C++ and Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export import open_generator
from reformer_export.artifact.manifest import record_files

from ..tools.artifact_fixtures import edit_manifest
from .programs import Ran, in_cpp

OK, USAGE, ARTIFACT, INPUT, INFERENCE, NATIVE, LIMIT = 0, 1, 2, 3, 4, 6, 11
LONGEST = 120  # the longest sequence of the small model, whose chunks have 4 and 6 tokens

Tokens = NDArray[np.int64]


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng((seed, length)).integers(2, 258, length).tolist()


def in_python(
    path: Path, prompts: Sequence[list[int]], *, ops: Any = "auto", pad: int = 0, **options: Any
) -> Tokens:
    """The tokens generated for each prompt alone, padded to one length."""
    generator = open_generator(path, threads=1, ops=ops)
    rows = [generator.generate(np.array(prompt), **options)[0].tolist() for prompt in prompts]
    generator.close()
    longest = max(map(len, rows))
    return np.array([row + [pad] * (longest - len(row)) for row in rows])


def run(folder: Path, path: Path, prompts: Sequence[list[int]], *arguments: object) -> Ran:
    """`reformer-run --generate`; prompts of different lengths are padded and masked."""
    longest = max(map(len, prompts))
    ids, mask = np.zeros((2, len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        place = slice(0, len(prompt)) if row % 2 else slice(longest - len(prompt), longest)
        ids[row, place], mask[row, place] = prompt, 1
    np.save(folder / "ids.npy", ids)
    np.save(folder / "mask.npy", mask)
    given: tuple[object, ...] = ("--input-ids", folder / "ids.npy", "--generate")
    given += () if mask.all() else ("--attention-mask", folder / "mask.npy")
    return in_cpp(path, *given, *arguments)


def tokens_of(folder: Path, path: Path, prompts: Sequence[list[int]], *arguments: object) -> Tokens:
    """The tokens that `run` prints with --json and saves; both must be the same."""
    out = folder / "tokens.npy"
    ran = run(folder, path, prompts, *arguments, "--json", "--output", out)
    assert (ran.code, ran.err) == (0, ""), ran
    saved: Tokens = np.load(out)
    assert saved.dtype == np.int64
    np.testing.assert_array_equal(saved, ran.document["tokens"])
    return saved


def with_configs(path: Path, folder: Path, **files: object) -> Path:
    """A copy of the artifact with other configuration files, given as JSON values or bytes."""
    copy = Path(shutil.copytree(path, folder))
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (copy / f"{name}.json").write_bytes(data)
    update_files(copy)
    return copy


def update_files(folder: Path) -> None:
    """Update the manifest to the files in the folder."""
    edit_manifest(
        folder,
        files={n: {"sha256": r.sha256, "bytes": r.bytes} for n, r in record_files(folder).items()},
    )
