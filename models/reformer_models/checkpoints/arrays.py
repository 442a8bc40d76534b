"""Reads the files of NumPy arrays that hold the weights of JAX libraries, without running code."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reformer_models.checkpoints.unpickling import arrays_in, unpickle
from reformer_models.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import torch

# In the order they are looked for. trax writes the first beside a pickle that then has no weights.
ARRAY_FILES: Final = ("model.weights.npy.gz", "model.npz", "model.pkl.gz", "model.pkl")

_GZIP: Final = b"\x1f\x8b"


def load_arrays(path: Path) -> dict[str, torch.Tensor]:
    """The arrays of one of `ARRAY_FILES`, named "0", "1", ... in their order.

    Arrays of uint16 become bf16: NumPy has no such type, so trax stores the bits.

    Raises:
        CheckpointError: A pickle has no weights.
        Exception: The file is damaged; the readers raise many types.
    """
    if path.suffix == ".npz":
        arrays = _read_npz(path)
    elif ".npy" in path.suffixes:
        arrays = _read_npy(_contents(path))
    else:
        arrays = _read_pickle(_contents(path), path)
    return {str(place): _tensor(array) for place, array in enumerate(arrays)}


def _contents(path: Path) -> bytes:
    contents = path.read_bytes()
    return gzip.decompress(contents) if contents.startswith(_GZIP) else contents


def _read_npz(path: Path) -> list[np.ndarray[Any, Any]]:
    import numpy as np

    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a .npz file")
    with np.load(path, allow_pickle=False) as held:
        names = [f"arr_{place}" for place in range(len(held.files))]
        if set(names) != set(held.files):
            raise CheckpointError(
                f"{path} must hold the list of weights, arr_0, arr_1, ...: write it with "
                "numpy.savez(path, *flat_weights)"
            )
        return [held[name] for name in names]


def _read_npy(contents: bytes) -> list[np.ndarray[Any, Any]]:
    """The arrays of several .npy files, one after the other."""
    from numpy.lib.format import read_array

    file, arrays = io.BytesIO(contents), []
    while file.tell() < len(contents):
        arrays.append(read_array(file, allow_pickle=False))
    return arrays


def _read_pickle(contents: bytes, path: Path) -> list[np.ndarray[Any, Any]]:
    held = unpickle(io.BytesIO(contents))
    weights = None
    if isinstance(held, dict):
        weights = held.get("flat_weights", held.get("weights"))
    if isinstance(weights, int):
        raise CheckpointError(
            f"{path} says that the weights are in {ARRAY_FILES[0]}, which is not beside it: copy "
            "that file, too"
        )
    if not isinstance(weights, list | tuple):
        raise CheckpointError(
            f"{path} has no weights: a table with flat_weights or weights, as trax writes it, is "
            "needed"
        )
    return list(arrays_in(weights))


def _tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    import numpy as np
    import torch

    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(array))
