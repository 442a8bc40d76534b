"""The node types that TensorRT plugins run, declared once: for the pass, the kernels, TensorRT."""

from __future__ import annotations

from dataclasses import dataclass

from reformer_ops.core.spec import Operand

KERNEL = "kernel"
"""The attribute of every plugin node: the number of the compiled kernel that it launches.

A single number, since it is the plainest there is: next to NumPy 2.4 the bindings of TensorRT 10.13
repeat the first element of arrays and of strings.
"""

_ROWS = ("batch", "length", "heads", "head_dim")
_BUCKETS = ("batch", "heads", "num_hashes", "length")
_MASK = Operand("mask", ("batch", "length"), "bool")


@dataclass(frozen=True)
class Plugin:
    """A node type of ours that TensorRT knows as a plugin.

    Operands in the order of the kernel's arguments; `length` comes between inputs and outputs. All
    axes of outputs are axes of inputs. "float" is the model's own type.
    """

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]


PLUGINS: tuple[Plugin, ...] = (
    Plugin(
        "lsh_bucket",
        (
            Operand("query", _ROWS, "float"),
            Operand("rotations", ("heads", "head_dim", "num_hashes", "half_factors"), "float32"),
            _MASK,
        ),
        (Operand("buckets", _BUCKETS, "int32"),),
    ),
    Plugin(
        "sort_first_pass",
        (Operand("buckets", _BUCKETS, "int32"),),
        (Operand("order", _BUCKETS, "int32"),),
    ),
    Plugin(
        "sort_next_pass",
        (Operand("buckets", _BUCKETS, "int32"), Operand("order", _BUCKETS, "int32")),
        (Operand("order", _BUCKETS, "int32"),),
    ),
    Plugin(
        "attend_rounds",
        (
            Operand("query_key", _ROWS, "float"),
            Operand("value", _ROWS, "float"),
            Operand("order", _BUCKETS, "int32"),
            _MASK,
        ),
        (
            Operand("rounds", ("batch", "num_hashes", "length", "heads", "head_dim"), "float"),
            Operand("lse", ("batch", "num_hashes", "length", "heads"), "float32"),
        ),
    ),
    Plugin(
        "combine_rounds",
        (
            Operand("rounds", ("batch", "num_hashes", "length", "heads", "head_dim"), "float"),
            Operand("lse", ("batch", "num_hashes", "length", "heads"), "float32"),
        ),
        (Operand("output", _ROWS, "float"),),
    ),
    Plugin(
        "chunk_attention",
        (
            Operand("query", _ROWS, "float"),
            Operand("key", _ROWS, "float"),
            Operand("value", _ROWS, "float"),
            _MASK,
        ),
        (Operand("output", _ROWS, "float"),),
    ),
)


def plugin_named(name: str) -> Plugin:
    """KeyError when there is none."""
    return {plugin.name: plugin for plugin in PLUGINS}[name]
