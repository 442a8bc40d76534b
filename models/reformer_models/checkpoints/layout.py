"""The files of a folder that hold the weights: one file, or several and an index."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Final

from reformer_models.checkpoints.json_file import read_json_object
from reformer_models.checkpoints.tensors import read_tensors
from reformer_models.errors import CheckpointError, quoted

if TYPE_CHECKING:
    import torch

INDEX: Final = ".index.json"

# In the order Transformers looks for them.
WEIGHT_FILES: Final = (
    "model.safetensors",
    "model.safetensors" + INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX,
)


@dataclass(frozen=True)
class Weights:
    """The weight files of a checkpoint, all of which exist.

    Attributes:
        shards: For each file, the names of the tensors to read from it; None for all of them.
        index: The index file that lists these names, if there is one.
    """

    shards: Mapping[Path, frozenset[str] | None]
    index: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, the index first."""
        index = () if self.index is None else (self.index,)
        return (*index, *self.shards)

    def names(self) -> Collection[str]:
        """The names of all tensors.

        Raises:
            CheckpointError: As `read`.
        """
        return self.read().keys()  # costs little: the files are memory-mapped

    def read(self) -> dict[str, torch.Tensor]:
        """All tensors by name, on the CPU, memory-mapped.

        Raises:
            CheckpointError: A file is damaged, holds something other than tensors, or lacks a
                tensor that the index says is in it.
        """
        tensors: dict[str, torch.Tensor] = {}
        for path, names in self.shards.items():
            held = read_tensors(path)
            if names is None:
                names = frozenset(held)
            missing = sorted(names - held.keys())
            if missing:
                raise CheckpointError(
                    f"{path} lacks {len(missing)} of the tensors that {self.index} says are in it "
                    f"(first: {quoted(missing[0])}); the files are not of one checkpoint"
                )
            tensors |= {name: held[name] for name in sorted(names)}
        return tensors


def find_weights(directory: Path, files: Sequence[str] = WEIGHT_FILES) -> Weights:
    """The weights in a folder: the first of `files` that exists, or those that this index names.

    Raises:
        CheckpointError: There are none, or a file that the index names is missing or is not in
            the folder.
    """
    for name in files:
        path = directory / name
        if os.path.lexists(path):
            if not os.path.isfile(path):
                raise CheckpointError(f"{path} is not a file, or a link that leads nowhere")
            return _indexed(path) if name.endswith(INDEX) else Weights({path: None})
    found = [quoted(entry) for entry in sorted(os.listdir(directory))]
    raise CheckpointError(
        f"{directory} holds no weights: one of {', '.join(files)} is needed, found "
        f"{_first(found, 8)}"
    )


def _indexed(index: Path) -> Weights:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} must say in weight_map which file each tensor is in")
    names_in: dict[str, set[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _is_plain(file):
            raise CheckpointError(
                f"{index} puts {quoted(name)} in {quoted(file)}; only files beside the index can "
                "be named there"
            )
        names_in.setdefault(file, set()).add(name)
    shards = {index.parent / file: frozenset(names_in[file]) for file in sorted(names_in)}
    # os.path, not Path: to it, a name that is too long for the system is a missing file.
    missing = [quoted(path.name) for path in shards if not os.path.isfile(path)]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {len(missing)} of the {len(shards)} weight files that "
            f"{index.name} names: {_first(missing, 3)}; copy or download them again"
        )
    return Weights(shards, index)


def _is_plain(file: str) -> bool:
    """True if this is a plain file name on any operating system: no path, no drive, not the folder
    itself."""
    paths = (PurePosixPath(file), PureWindowsPath(file))
    return file not in ("", ".", "..") and all(path.name == file for path in paths)


def _first(names: list[str], count: int) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
