"""The form of an operator for TensorRT; each operator's `tensorrt.py` defines its own.

A plugin has no working memory and launches one kernel once, so an operator is a chain of plugins.
`TensorRTForm.steps` names the kernels of the chain.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from reformer_ops.core.spec import AttributeValue, Operand, OpSpec

if TYPE_CHECKING:
    import onnx_ir as ir

    from reformer_ops.core.onnx_writer import OnnxWriter

KERNEL = "kernel"
"""The attribute of every plugin node: the number of the compiled kernel that it launches.

It is a single number because the bindings of TensorRT 10.13 with NumPy 2.4 repeat the first element
of arrays and of strings.
"""

Attributes = Mapping[str, AttributeValue]
Sizes = Mapping[str, int]
"""Sizes of a node's fixed axes, by the operator's names for them."""


@dataclass(frozen=True)
class Plugin:
    """A node type that a TensorRT plugin runs.

    Operands are in the order of the kernel's arguments; `length` is between inputs and outputs. All
    axes of outputs are axes of inputs. "float" is the model's own type.
    """

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]


class CompiledStep(Protocol):
    """The attributes of a compiled kernel that an operator checks."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def step(self) -> str:
        """Its name among the launches of a layer."""
        ...

    @property
    def times(self) -> int:
        """The number of rows of its grid."""
        ...

    @property
    def constants(self) -> Mapping[str, Any]:
        """The constants that are compiled in, under the kernel's names."""
        ...


class LargestTensor(NamedTuple):
    """The size of the largest tensor in an operator's standard form."""

    per_token: int
    """Elements for each token of each sequence."""
    padded_to: int
    """The number of tokens is rounded up to a multiple of this."""


class TensorRTForm(ABC):
    """The form of an operator in TensorRT: plugins or standard operators."""

    op: OpSpec
    plugins: tuple[Plugin, ...]
    without_fp32_products: str = "portable"
    """The name, in an engine's record, of the form without fp32 matrix products."""

    def steps(self, compiled: Collection[str], sizes: Sizes) -> list[str]:
        """The kernels that compute a node, in order; `compiled` are the existing kernels."""
        return [plugin.name for plugin in self.plugins]

    def plugin_of(self, step: str, arguments: Collection[str]) -> str | None:
        """The plugin that launches the kernel `step` with these arguments; None if none does."""
        return step if step in {plugin.name for plugin in self.plugins} else None

    @abstractmethod
    def constants(self, attributes: Attributes, sizes: Sizes) -> dict[str, Any]:
        """The constants that the kernels of a node must have, under the kernels' names."""

    def misfit(
        self, chain: Sequence[CompiledStep], attributes: Attributes, sizes: Sizes
    ) -> str | None:
        """Why these kernels do not fit a node, apart from constants; None if they fit."""
        return None

    def largest_tensor(self, attributes: Attributes, sizes: Sizes) -> LargestTensor | None:
        """The largest tensor of the standard form; None if it is no larger than the inputs."""
        return None

    def write_without_fp32_products(
        self, writer: OnnxWriter, *inputs: ir.Value, **attributes: Any
    ) -> tuple[ir.Value, ...] | None:
        """Write the operator without a matrix product in fp32; None if its body has none."""
        return None


def sizes_compiled_in(sizes: Sizes, *axes: str) -> dict[str, int]:
    """Axes that are compiled into kernels, under the kernels' names: HEADS for "heads"."""
    return {axis.upper(): sizes[axis] for axis in axes}


def integer(attributes: Attributes, name: str) -> int:
    """An attribute that the operator's spec declares as an integer."""
    return cast(int, attributes[name])


def attention_constants(attributes: Attributes) -> dict[str, Any]:
    """Attributes that are compiled into both attentions, under the kernels' names."""
    return {
        "CHUNK_LENGTH": attributes["chunk_length"],
        "CHUNKS_BEFORE": attributes["num_chunks_before"],
        "CHUNKS_AFTER": attributes["num_chunks_after"],
        "CAUSAL": bool(attributes["causal"]),
    }


def scores_of_attention(attributes: Attributes, rows: int) -> LargestTensor:
    """The scores of chunked attention with `rows` heads (times rounds)."""
    chunk, before, after = (
        integer(attributes, name)
        for name in ("chunk_length", "num_chunks_before", "num_chunks_after")
    )
    return LargestTensor(rows * chunk * (before + 1 + after), chunk)
