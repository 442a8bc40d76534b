"""Reads the tensors of one weight file, without running code from it.

Safetensors and PyTorch's files are memory-mapped, copy on write: a tensor takes no memory until it
is used, and writing to it never changes the file. Files that PyTorch wrote before 1.6 and files of
arrays are read whole.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reformer_models.checkpoints.arrays import ARRAY_FILES, load_arrays
from reformer_models.checkpoints.json_file import check_not_pointer, one_line
from reformer_models.errors import CheckpointError, quoted

if TYPE_CHECKING:
    import torch

SAFETENSORS: Final = ".safetensors"


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a .safetensors, PyTorch .bin or array file, on the CPU, by name.

    Raises:
        CheckpointError: The file can't be read, is damaged, or holds something other than tensors.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {one_line(error)}") from error
    check_not_pointer(path)
    try:
        held = _reader(path)(path)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is no plain table of tensors; reading the rest could run code hidden in it, "
            "so it was not read. If you trust its maker, ask for a .safetensors file"
        ) from error
    except Exception as error:  # the readers raise many types for a damaged file
        raise CheckpointError(
            f"{path} is cut short or damaged ({one_line(error)}); copy or download it again"
        ) from error
    return _tensors_only(held, path)


def _reader(path: Path) -> Callable[[Path], object]:
    if path.name in ARRAY_FILES:
        return load_arrays
    return _load_safetensors if path.suffix == SAFETENSORS else _load_pickle


def _load_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


def _load_pickle(path: Path) -> object:
    import torch

    mappable = zipfile.is_zipfile(path)
    with warnings.catch_warnings(action="ignore"):  # real problems raise errors
        held: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    return held


def _tensors_only(held: object, path: Path) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(held, dict):
        raise CheckpointError(
            f"{path} must hold a table of tensors by name, found a {type(held).__name__}"
        )
    for name, value in held.items():
        dense = isinstance(value, torch.Tensor) and value.layout is torch.strided
        if not isinstance(name, str) or not dense:
            raise CheckpointError(
                f"{path} must hold dense tensors by name, found a {type(value).__name__} under "
                f"{quoted(name)}; save the model's state_dict() alone"
            )
    return {name: tensor.detach() for name, tensor in held.items()}
