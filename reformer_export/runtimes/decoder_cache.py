"""The cache of a decoder: its state after the tokens so far."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact.staging import atomic_file
from reformer_export.errors import ArtifactError, ExportError, InputError
from reformer_export.host.optional import require

Array = NDArray[Any]

_PURPOSE = "saving and loading a cache"
_CAPACITY, _BLOCKS = "capacity", "blocks"


@dataclass(frozen=True)
class CacheLayout:
    """The tensors of a cache, as a decoder's graph declares them.

    Attributes:
        model: the SHA-256 of the decoder's weights; a cache works only with that model.
        tensors: type and axes by name ("key.3"). An axis is a size, "batch", "capacity" (tokens)
            or "blocks": the number of blocks that `capacity` tokens need in an `order` tensor
            `[.., blocks, block_length]`.
    """

    model: str
    tensors: Mapping[str, tuple[np.dtype[Any], tuple[str | int, ...]]]

    def shape(self, name: str, batch: int, capacity: int) -> tuple[int, ...]:
        """The shape of a tensor for `batch` sequences, with room for `capacity` tokens."""
        sizes = {"batch": batch, _CAPACITY: capacity, _BLOCKS: self._blocks(capacity)}
        _, axes = self.tensors[name]
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in axes)

    def used(self, name: str, length: int) -> tuple[slice, ...]:
        """The index of the part of a tensor that is in use after `length` tokens."""
        _, axes = self.tensors[name]
        sizes = {_CAPACITY: length, _BLOCKS: self._blocks(length)}
        return tuple(slice(sizes.get(axis) if isinstance(axis, str) else None) for axis in axes)

    def capacity_of(self, tensors: Mapping[str, Array]) -> int | None:
        """The tokens that a cache has room for; None (no limit) if no layer keeps all tokens."""
        for name, (_, axes) in self.tensors.items():
            if _CAPACITY in axes:
                return tensors[name].shape[axes.index(_CAPACITY)]
        return None

    def _blocks(self, length: int) -> int:
        """The number of blocks that `length` tokens need in an `order` tensor."""
        for _, axes in self.tensors.values():
            if axes[-2:-1] == (_BLOCKS,) and isinstance(axes[-1], int):
                return -(-length // axes[-1])
        return length


class Cache:
    """The cache of a batch of sequences, which may have different lengths.

    Attributes:
        layout: the names, types and axes of the tensors.
        tensors: the tensors by name. A decoder with our kernels changes them in place.
        past_length: `[batch]` int64, the tokens in the cache.
        prompt_length: `[batch]` int64, the tokens in the cache that belong to the prompt.
    """

    def __init__(
        self,
        layout: CacheLayout,
        tensors: dict[str, Array],
        past_length: NDArray[np.int64],
        prompt_length: NDArray[np.int64],
    ) -> None:
        self.layout = layout
        self.tensors = tensors
        self.past_length = past_length
        self.prompt_length = prompt_length

    @classmethod
    def empty(cls, layout: CacheLayout, batch: int, capacity: int) -> Cache:
        """A cache without tokens."""
        tensors = {
            name: np.zeros(layout.shape(name, batch, capacity), dtype)
            for name, (dtype, _) in layout.tensors.items()
        }
        return cls(layout, tensors, np.zeros(batch, np.int64), np.zeros(batch, np.int64))

    @classmethod
    def joined(cls, caches: Sequence[Cache]) -> Cache:
        """One cache with the rows of several caches of the same model, in this order.

        It has room for as many tokens as the largest of them.
        """
        capacity = max((cache.capacity or 0 for cache in caches), default=0)
        wide = [
            cache if cache.capacity in (None, capacity) else cache.with_capacity(capacity)
            for cache in caches
        ]
        if len(wide) == 1:
            return wide[0]
        tensors = {
            name: np.concatenate([cache.tensors[name] for cache in wide])
            for name in wide[0].tensors
        }
        return cls(
            wide[0].layout,
            tensors,
            np.concatenate([cache.past_length for cache in wide]),
            np.concatenate([cache.prompt_length for cache in wide]),
        )

    @property
    def batch(self) -> int:
        """The number of sequences."""
        return len(self.past_length)

    @property
    def capacity(self) -> int | None:
        """The tokens that it has room for; None (no limit) if no layer keeps all tokens."""
        return self.layout.capacity_of(self.tensors)

    def put(self, rows: Sequence[int], tensors: Mapping[str, Array], length: int) -> None:
        """Fill rows with the cache of prompts that all have `length` tokens."""
        for name, values in tensors.items():
            used = self.layout.used(name, length)[1:]
            for row, value in zip(rows, values, strict=True):
                self.tensors[name][row][used] = value
        self.past_length[list(rows)] = self.prompt_length[list(rows)] = length

    def select(self, rows: Sequence[int]) -> Cache:
        """A cache of the given rows, in this order. A row may occur several times, as beam search
        needs."""
        index = np.asarray(rows, np.intp)
        tensors = {name: tensor[index] for name, tensor in self.tensors.items()}
        return Cache(self.layout, tensors, self.past_length[index], self.prompt_length[index])

    def with_capacity(self, capacity: int) -> Cache:
        """A copy with room for `capacity` tokens, which must be enough for the tokens it holds."""
        wider = Cache.empty(self.layout, self.batch, capacity)
        used = int(self.past_length.max(initial=0))
        for name, tensor in self.tensors.items():
            place = self.layout.used(name, used)
            wider.tensors[name][place] = tensor[place]
        wider.past_length[:], wider.prompt_length[:] = self.past_length, self.prompt_length
        return wider

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the cache atomically as a safetensors file.

        Raises:
            ExportError: the file cannot be written.
            MissingDependencyError: safetensors is not installed.
        """
        safetensors = require("safetensors.numpy", purpose=_PURPOSE)
        tensors = {
            **{name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()},
            "past_length": self.past_length,
            "prompt_length": self.prompt_length,
        }
        data: bytes = safetensors.save(tensors, metadata={"model": self.layout.model})
        try:
            with atomic_file(Path(path)) as file:
                file.write(data)
        except OSError as error:
            raise ExportError(f"cannot write {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, layout: CacheLayout, path: str | os.PathLike[str]) -> Cache:
        """Read a file that `save` wrote.

        Raises:
            InputError: the cache is of another model.
            ArtifactError: the file is not a valid cache.
            MissingDependencyError: safetensors is not installed.
        """
        safetensors = require("safetensors", purpose=_PURPOSE)
        try:
            with safetensors.safe_open(str(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                names = file.keys()
                found = {name: file.get_tensor(name) for name in names}
        except Exception as error:  # safetensors' own exception class, or OSError
            raise ArtifactError(f"{path} does not load as a cache: {error}") from error
        if metadata.get("model") != layout.model:
            raise InputError(f"{path} is a cache of another model: make one with this artifact")
        lengths = [found.pop(name, None) for name in ("past_length", "prompt_length")]
        past_length, prompt_length = lengths
        if past_length is None or prompt_length is None or found.keys() != layout.tensors.keys():
            raise ArtifactError(f"{path} does not hold all tensors of a cache: make it again")
        cache = cls(layout, found, past_length, prompt_length)
        cache._check(path)
        return cache

    def _check(self, path: str | os.PathLike[str]) -> None:
        """Raises ArtifactError if a tensor does not have the type or shape of the layout, or the
        lengths are not valid."""
        batch, capacity = self.batch, self.capacity
        for name, (dtype, _) in self.layout.tensors.items():
            tensor, shape = self.tensors[name], self.layout.shape(name, batch, capacity or 0)
            if tensor.dtype != dtype or tensor.shape != shape:
                raise ArtifactError(
                    f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}, and a cache of this "
                    f"model has {dtype} {list(shape)}"
                )
        lengths = (self.prompt_length, self.past_length)
        fit = all(each.dtype == np.int64 and each.shape == (batch,) for each in lengths) and (
            (self.prompt_length >= 0).all()
            and (self.prompt_length <= self.past_length).all()
            and (capacity is None or (self.past_length <= capacity).all())
        )
        if not fit:
            raise ArtifactError(
                f"{path}: the lengths {self.past_length.tolist()}, of prompts "
                f"{self.prompt_length.tolist()}, do not fit a cache for {capacity} tokens"
            )
