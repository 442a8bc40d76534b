"""Inputs and outputs of a model: names, dtypes, axes, and limits that the graph cannot state.

A runtime accepts a token id outside the vocabulary, or a sequence longer than the position table,
and returns the values of another row or crashes. `Signature.check` refuses such inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reformer_export.artifact.fields import Fields
from reformer_export.errors import ArtifactError, InputError

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
PAST, PRESENT = "past_", "present_"
"""Prefixes of the names of a cache's tensors, as inputs and as outputs."""
PAST_LENGTH, PROMPT_LENGTH, LOGITS = "past_length", "prompt_length", "logits"
"""Further names of inputs and outputs in the graphs that generate."""

_DTYPES = frozenset({"bool", "int32", "int64", "float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's name, NumPy dtype name, and axes: a name if dynamic, a number if fixed."""

    name: str
    dtype: str
    axes: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join(map(str, self.axes))}]"

    def shape(self, batch: int, length: int) -> tuple[int, ...]:
        """The sizes of its axes for `batch` sequences of `length` tokens."""
        sizes = {"batch": batch, "sequence": length}
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.axes)

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


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs, and the bounds on token ids and on the length of a sequence."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    vocab_size: int
    min_length: int
    max_length: int

    @property
    def last_logits(self) -> bool:
        """True if a language model returns only the logits of the last token of each row."""
        return any(spec.name == LOGITS and spec.axes[1:-1] == (1,) for spec in self.outputs)

    def check(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return all inputs as a runtime needs them, C-contiguous int64 [batch, sequence].

        `inputs` maps names to anything that NumPy reads as integers (a mask may be boolean). A
        missing attention_mask becomes all ones. Raises InputError for a wrong name, rank, shape or
        dtype, an empty batch, a length outside [min_length, max_length], a token id outside the
        vocabulary and a mask with values other than 0 and 1.
        """
        known = [spec.name for spec in self.inputs]
        for name in inputs:
            if name not in known:
                raise InputError(f"the model has no input {name!r}: it takes {', '.join(known)}")
        if INPUT_IDS not in inputs:
            raise InputError(f"{INPUT_IDS} is missing: give the token ids as [batch, sequence]")
        ids = self._check_ids(_integers(INPUT_IDS, inputs[INPUT_IDS]))
        mask = inputs.get(ATTENTION_MASK)
        given = {
            INPUT_IDS: ids,
            ATTENTION_MASK: np.ones_like(ids) if mask is None else _check_mask(mask, ids.shape),
        }
        return {name: given[name] for name in known}

    def _check_ids(self, ids: np.ndarray) -> np.ndarray:
        if ids.ndim != 2:
            remedy = ": add the batch axis, ids[None, :]" if ids.ndim == 1 else ""
            raise InputError(
                f"{INPUT_IDS} must be [batch, sequence], found shape {list(ids.shape)}{remedy}"
            )
        batch, length = ids.shape
        if batch == 0:
            raise InputError(
                f"{INPUT_IDS} has shape {list(ids.shape)}, an empty batch: give at least one row"
            )
        if not self.min_length <= length <= self.max_length:
            found = "an empty sequence" if length == 0 else f"a sequence of {length} tokens"
            raise InputError(
                f"{INPUT_IDS} holds {found}; the model takes {self.min_length} to "
                f"{self.max_length}: {'split or cut it' if length else 'give at least one token'}"
            )
        # Before the cast: a very large uint64 must not wrap around into the vocabulary.
        outside = (ids < 0) | (ids >= self.vocab_size)
        if outside.any():
            row, column = np.argwhere(outside)[0].tolist()
            raise InputError(
                f"{INPUT_IDS}[{row}, {column}] is {ids[row, column]}, outside the vocabulary "
                f"0..{self.vocab_size - 1} ({int(outside.sum())} such ids): "
                "encode the text with the model's own tokenizer"
            )
        return np.ascontiguousarray(ids, dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """The signature as an object of a manifest."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "vocab_size": self.vocab_size,
            "min_length": self.min_length,
            "max_length": self.max_length,
        }

    @classmethod
    def from_json(cls, raw: object, where: str = "signature") -> Signature:
        """Read what `to_json` wrote; raises ArtifactError, which names the wrong field."""
        fields = Fields(raw, where)
        inputs = tuple(TensorSpec.from_json(item) for item in fields.children("inputs"))
        expected = {(name, "int64", 2) for name in (INPUT_IDS, ATTENTION_MASK)}
        if {(spec.name, spec.dtype, len(spec.axes)) for spec in inputs} != expected or len(
            inputs
        ) != len(expected):
            raise ArtifactError(
                f"{where}.inputs must be {INPUT_IDS} and {ATTENTION_MASK}, int64 "
                f"[batch, sequence], found {'; '.join(map(str, inputs)) or 'none'}"
            )
        outputs = tuple(TensorSpec.from_json(item) for item in fields.children("outputs"))
        if not outputs:
            raise ArtifactError(f"{where}.outputs is empty: export the model again")
        shortest = fields.integer("min_length", minimum=1)
        return cls(
            inputs=inputs,
            outputs=outputs,
            vocab_size=fields.integer("vocab_size", minimum=1),
            min_length=shortest,
            max_length=fields.integer("max_length", minimum=shortest),
        )


def _check_mask(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    mask = _integers(ATTENTION_MASK, value, boolean=True)
    if mask.shape != shape:
        raise InputError(
            f"{ATTENTION_MASK} has shape {list(mask.shape)} and {INPUT_IDS} {list(shape)}: "
            "give one 0 or 1 for each token"
        )
    odd = (mask != 0) & (mask != 1)
    if odd.any():
        row, column = np.argwhere(odd)[0].tolist()
        raise InputError(
            f"{ATTENTION_MASK}[{row}, {column}] is {mask[row, column]}: "
            "use 1 for a token and 0 for padding"
        )
    return np.ascontiguousarray(mask, dtype=np.int64)


def _integers(name: str, value: Any, *, boolean: bool = False) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} is not an array of integers: {reason}") from error
    # NumPy turns an empty list into float64; the error should be about its length.
    empty_list = array.size == 0 and not isinstance(value, np.ndarray)
    if array.dtype.kind not in ("biu" if boolean else "iu") and not empty_list:
        raise InputError(f"{name} must be integers, found {array.dtype}: cast to int64")
    return array.astype(np.int64) if empty_list else array
