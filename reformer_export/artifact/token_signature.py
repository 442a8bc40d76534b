"""The signature of models that take tokens.

A runtime accepts a token id outside the vocabulary, or a sequence longer than the position table,
and returns the values of another row or crashes. `TokenSignature.check` refuses such inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reformer_export.artifact.base_signature import Signature, TensorSpec, read_specs
from reformer_export.artifact.fields import Fields
from reformer_export.errors import ArtifactError, InputError

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"


@dataclass(frozen=True)
class TokenSignature(Signature):
    """The signature of a model of tokens: it also has the size of the vocabulary."""

    kind: ClassVar[str] = "tokens"
    main_input: ClassVar[str] = INPUT_IDS
    unit: ClassVar[str] = "tokens"

    vocab_size: int

    @classmethod
    def of(
        cls, *, vocab_size: int, outputs: tuple[TensorSpec, ...], max_length: int
    ) -> TokenSignature:
        """The signature of a model with this vocabulary."""
        axes = ("batch", "sequence")
        return cls(
            inputs=tuple(TensorSpec(name, "int64", axes) for name in (INPUT_IDS, ATTENTION_MASK)),
            outputs=outputs,
            min_length=1,
            max_length=max_length,
            vocab_size=vocab_size,
        )

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

    def random_inputs(self, rng: np.random.Generator, batch: int, length: int) -> dict[str, Any]:
        """Random ids; the mask of the first row is full, the others are of random lengths."""
        ids = rng.integers(0, self.vocab_size, (batch, length))
        sizes = rng.integers(1, length + 1, batch)
        sizes[0] = length
        return {INPUT_IDS: ids, ATTENTION_MASK: np.arange(length) < sizes[:, None]}

    def limits(self) -> dict[str, Any]:
        """The size of the vocabulary."""
        return {"vocab_size": self.vocab_size}

    def summary(self) -> tuple[tuple[str, str], ...]:
        """All bounds as (label, text) lines for people."""
        return ("sequence", self.lengths), ("vocabulary", str(self.vocab_size))

    def descriptions(self) -> dict[str, str]:
        """A sentence about each input, by name."""
        lengths = f"{self.min_length} to {self.max_length}"
        return {
            INPUT_IDS: f"Token ids from 0 to {self.vocab_size - 1}; {lengths} in a sequence.",
            ATTENTION_MASK: "1 for a token, 0 for padding.",
        }

    @classmethod
    def from_json(cls, fields: Fields) -> TokenSignature:
        """Read what `to_json` wrote; raises ArtifactError, which names the wrong field."""
        inputs = tuple(TensorSpec.from_json(item) for item in fields.children("inputs"))
        expected = {(name, "int64", 2) for name in (INPUT_IDS, ATTENTION_MASK)}
        if {(spec.name, spec.dtype, len(spec.axes)) for spec in inputs} != expected or len(
            inputs
        ) != len(expected):
            raise ArtifactError(
                f"{fields.where}.inputs must be {INPUT_IDS} and {ATTENTION_MASK}, int64 "
                f"[batch, sequence], found {'; '.join(map(str, inputs)) or 'none'}"
            )
        return cls(**read_specs(fields), vocab_size=fields.integer("vocab_size", minimum=1))


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
