"""The declaration of an operator for all frameworks: names, operands, attributes, version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from reformer_ops.core.errors import OpError

DOMAIN = "reformer"
"""ONNX domain and torch namespace. No dot: a TensorRT plugin namespace refuses one."""

AttributeKind = Literal["int", "ints", "bool", "float", "text"]
AttributeValue = int | Sequence[int] | bool | float | str

_TORCH_TYPES: dict[AttributeKind, str] = {
    "int": "int",
    "ints": "int[]",
    "bool": "bool",
    "float": "float",
    "text": "str",
}


@dataclass(frozen=True)
class Operand:
    """An input or output tensor of an operator.

    `axes` are symbolic names; equal names mean equal sizes within one operator. `dtype` is "float"
    for the model's own type (fp32, fp16 or bf16), "wide" for the type of its sums (fp32), otherwise
    a NumPy name. `changed` is True if the operator writes into the tensor.
    """

    name: str
    axes: tuple[str, ...]
    dtype: str
    changed: bool = False


@dataclass(frozen=True)
class Attribute:
    """A compile-time argument. ONNX has no booleans: there a "bool" is an int of 0 or 1.

    A number is at least `minimum`, less than `limit`, and even if `even` is set. An "ints" holds at
    least one such number. A "text" is one of `choices`.
    """

    name: str
    kind: AttributeKind
    minimum: int = 0
    limit: float = math.inf
    even: bool = False
    choices: tuple[str, ...] = ()

    def takes(self, value: AttributeValue) -> bool:
        """True if the operator is defined for `value`."""
        if isinstance(value, str):
            return value in self.choices
        numbers = (value,) if isinstance(value, int | float) else value
        return bool(numbers) and all(
            self.minimum <= number < self.limit and not (self.even and number % 2)
            for number in numbers
        )

    def __str__(self) -> str:
        """The accepted values, for error messages."""
        if self.kind == "text":
            return f"{self.name} of {', '.join(self.choices)}"
        what = f"one or more {self.name}" if self.kind == "ints" else self.name
        below = "" if self.limit == math.inf else f" and < {self.limit:g}"
        return f"{what}{', even and' if self.even else ''} >= {self.minimum}{below}"


@dataclass(frozen=True)
class OpSpec:
    """One operator. Tests compare the torch schema, the ONNX node and the kernels with this."""

    name: str
    torch_name: str
    version: int
    inputs: tuple[Operand, ...]
    attributes: tuple[Attribute, ...]
    outputs: tuple[Operand, ...]

    @property
    def torch_schema(self) -> str:
        """The schema in the syntax of `torch.library`."""
        marks = iter("abcdefgh")
        arguments = [
            f"Tensor{f'({next(marks)}!)' if operand.changed else ''} {operand.name}"
            for operand in self.inputs
        ]
        arguments += [f"{_TORCH_TYPES[a.kind]} {a.name}" for a in self.attributes]
        results = ", ".join("Tensor" for _ in self.outputs)
        results = results if len(self.outputs) == 1 else f"({results})"
        return f"{self.torch_name}({', '.join(arguments)}) -> {results}"

    @cached_property
    def with_lse(self) -> OpSpec:
        """The form of an attention for training; only torch has it.

        It drops a share `dropout` of the probabilities, chosen by `seed`. In addition to the output
        it returns the logsumexp of each query's scores for all keys that it sees in all rounds,
        which the backward pass needs.
        """
        lse = Operand("lse", ("batch", "heads", "length"), "wide")
        return replace(
            self,
            name=f"{self.name}WithLse",
            torch_name=f"{self.torch_name}_with_lse",
            inputs=(*self.inputs, Operand("seed", (), "int64")),
            attributes=(*self.attributes, Attribute("dropout", "float", limit=1)),
            outputs=(*self.outputs, lse),
        )

    @cached_property
    def backward(self) -> OpSpec:
        """The gradients of an attention's float inputs; only torch has it.

        Its inputs are the inputs and outputs of `with_lse` and the output's gradient.
        """
        gradient = replace(self.outputs[0], name="gradient")
        floats = [operand for operand in self.inputs if operand.dtype == "float"]
        forward = self.with_lse
        return replace(
            forward,
            name=f"{self.name}Backward",
            torch_name=f"{self.torch_name}_backward",
            inputs=(*forward.inputs, *forward.outputs, gradient),
            outputs=tuple(replace(f, name=f"{f.name}_gradient") for f in floats),
        )

    @cached_property
    def in_place(self) -> OpSpec:
        """A step that writes the new token into the given cache; only torch has it.

        It returns only its output.
        """
        pasts = {operand.name.replace("present_", "past_") for operand in self.outputs}
        return replace(
            self,
            name=f"{self.name}InPlace",
            torch_name=f"{self.torch_name}_",
            inputs=tuple(replace(each, changed=each.name in pasts) for each in self.inputs),
            outputs=self.outputs[:1],
        )

    def check_attributes(self, **values: AttributeValue) -> None:
        """Raises OpError, which names the first attribute with an invalid value."""
        for attribute in self.attributes:
            value = values[attribute.name]
            if not attribute.takes(value):
                raise OpError(f"{self.torch_name} takes {attribute}; got {value}")
