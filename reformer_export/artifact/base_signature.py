"""What the signatures of all models have in common; `signature.py` lists the kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reformer_export.artifact.fields import Fields
from reformer_export.errors import ArtifactError

LOGITS = "logits"

_DTYPES = frozenset({"bool", "int32", "int64", "float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's name, NumPy dtype name, and axes.

    An axis is a number if its size is fixed. If it is dynamic, it is a name, or a name and a number
    that is added to its size, such as "sequence + 24".
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join(map(str, self.axes))}]"

    def shape(self, batch: int, length: int) -> tuple[int, ...]:
        """The sizes of its axes for `batch` sequences of `length` positions."""
        sizes = {"batch": batch, "sequence": length}
        return tuple(_size(axis, sizes) if isinstance(axis, str) else axis for axis in self.axes)

    def to_json(self) -> dict[str, Any]:
        """The tensor as an object of a manifest."""
        return {"name": self.name, "dtype": self.dtype, "axes": list(self.axes)}

    @classmethod
    def from_json(cls, fields: Fields) -> TensorSpec:
        """Read what `to_json` wrote; raises ArtifactError."""
        dtype = fields.text("dtype")
        if dtype not in _DTYPES:
            raise ArtifactError(
                f"{fields.where}.dtype must be one of {', '.join(sorted(_DTYPES))}, found {dtype!r}"
            )
        axes = fields.sequence("axes")
        for i, axis in enumerate(axes):
            fixed = isinstance(axis, int) and not isinstance(axis, bool) and axis > 0
            if not fixed and not (isinstance(axis, str) and axis):
                raise ArtifactError(
                    f"{fields.where}.axes[{i}] must be a name or a positive size, found {axis!r}"
                )
        return cls(fields.text("name"), dtype, tuple(axes))


def _size(axis: str, sizes: Mapping[str, int]) -> int:
    name, _, more = axis.partition(" + ")
    return sizes[name] + int(more or 0)


@dataclass(frozen=True)
class Signature(ABC):
    """Inputs, outputs, and the bounds on the length of a sequence.

    A graph cannot state such bounds: a runtime then returns wrong numbers or crashes. `check`
    refuses inputs beyond them.
    """

    kind: ClassVar[str]
    """The name of the kind in manifests."""
    main_input: ClassVar[str]
    """The input whose first axes are the batch and the sequence."""
    unit: ClassVar[str]
    """What a sequence consists of, in the plural."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    min_length: int
    max_length: int

    @property
    def last_logits(self) -> bool:
        """True if a language model returns only the logits of the last token of each row."""
        return any(spec.name == LOGITS and spec.axes[1:-1] == (1,) for spec in self.outputs)

    @abstractmethod
    def check(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All inputs in the signature's order, as a runtime needs them; raises InputError."""

    @abstractmethod
    def random_inputs(self, rng: np.random.Generator, batch: int, length: int) -> dict[str, Any]:
        """Random inputs that `check` accepts."""

    @abstractmethod
    def limits(self) -> dict[str, Any]:
        """The bounds besides those on the length, for manifests and metadata."""

    @abstractmethod
    def summary(self) -> tuple[tuple[str, str], ...]:
        """All bounds as (label, text) lines for people."""

    @abstractmethod
    def descriptions(self) -> dict[str, str]:
        """A sentence about each input, by name."""

    def extent(self, inputs: Mapping[str, Any]) -> tuple[int, int]:
        """The batch size and the length of checked inputs."""
        batch, length = inputs[self.main_input].shape[:2]
        return int(batch), int(length)

    def described_extent(self, inputs: Mapping[str, Any]) -> str:
        """The batch size and the length of checked inputs, such as "3 x 64 tokens"."""
        batch, length = self.extent(inputs)
        return f"{batch} x {length} {self.unit}"

    @property
    def lengths(self) -> str:
        """The lengths that the model takes, such as "1 to 64 tokens"."""
        return f"{self.min_length} to {self.max_length} {self.unit}"

    def to_json(self) -> dict[str, Any]:
        """The signature as an object of a manifest."""
        return {
            "kind": self.kind,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            **self.limits(),
            "min_length": self.min_length,
            "max_length": self.max_length,
        }


def read_specs(fields: Fields) -> dict[str, Any]:
    """The attributes of `Signature` in an object that `to_json` wrote; raises ArtifactError."""
    outputs = tuple(TensorSpec.from_json(item) for item in fields.children("outputs"))
    if not outputs:
        raise ArtifactError(f"{fields.where}.outputs is empty: export the model again")
    shortest = fields.integer("min_length", minimum=1)
    return {
        "inputs": tuple(TensorSpec.from_json(item) for item in fields.children("inputs")),
        "outputs": outputs,
        "min_length": shortest,
        "max_length": fields.integer("max_length", minimum=shortest),
    }
