"""An operator as a program: the launches that compute it, and the buffers between them.

Code that runs a program does not need to know the operator. Inputs and outputs have the names of
the spec; an output of a launch that a later launch reads is a scratch buffer of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reformer_ops.add_norm.spec import ADD_NORM
from reformer_ops.add_norm.triton_kernel import add_norm
from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION
from reformer_ops.chunk_attention.triton_kernel import chunk_attention
from reformer_ops.core.errors import OpError
from reformer_ops.core.spec import AttributeValue, OpSpec
from reformer_ops.lsh_bucket.spec import LSH_BUCKET
from reformer_ops.lsh_bucket.triton_kernel import lsh_bucket
from reformer_ops.sorted_chunk_attention.spec import SORTED_CHUNK_ATTENTION
from reformer_ops.sorted_chunk_attention.triton_combine import combine_rounds
from reformer_ops.sorted_chunk_attention.triton_kernel import attend_rounds, describe_keys
from reformer_ops.sorted_chunk_attention.triton_sort import SEGMENT, sort_passes
from reformer_ops.triton.launch import Grid, Launch
from reformer_ops.triton.tiles import attention_tile

LONGEST = 2**31 - 1
"""Kernels take lengths as 32-bit integers."""


@dataclass(frozen=True)
class Step:
    """One launch. It is skipped if the length of a run is not in `shortest..longest`.

    `buffers` gives the program's name of an argument that has another name in the kernel.
    """

    launch: Launch
    buffers: Mapping[str, str] = field(default_factory=dict)
    shortest: int = 1
    longest: int = LONGEST

    def arguments(self) -> list[str]:
        """The kernel's arguments under the program's names, including "length"."""
        names = [a.name for a in self.launch.inputs]
        names += ["length"]
        names += [a.name for a in self.launch.outputs]
        return [self.buffers.get(name, name) for name in names]


@dataclass(frozen=True)
class Program:
    """The computation of an operator on one GPU, for one type and shape.

    Attributes:
        op: the operator.
        dtype: the model's type, "float16".
        attributes: the node's attributes.
        sizes: the axes that are compiled in, such as heads; batch and length are set in each run.
        scratch: buffers by name. `Grid.programs` gives their size in bytes.
        steps: the launches, in order.
    """

    op: OpSpec
    dtype: str
    attributes: Mapping[str, AttributeValue]
    sizes: Mapping[str, int]
    scratch: Mapping[str, Grid]
    steps: tuple[Step, ...]


def sizes_of(op: OpSpec, shapes: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The axes that are compiled into a program for `op`, from the shapes of inputs by name."""
    axes: dict[str, Any] = {}
    for operand in op.inputs:
        if operand.name in shapes:
            axes.update(zip(operand.axes, shapes[operand.name], strict=True))
    return {name: axes[name] for name in _RECIPES[op.name].sizes if name in axes}


def make_program(
    op: OpSpec,
    *,
    dtype: str,
    attributes: Mapping[str, AttributeValue],
    sizes: Mapping[str, int],
    target: int,
) -> Program:
    """The program for one operator.

    Args:
        op: the operator.
        dtype: "float32", "float16" or "bfloat16".
        attributes: every attribute of the spec.
        sizes: every axis that `sizes_of` returns.
        target: the GPU's compute capability, 90 for sm_90.

    Raises:
        OpError: the operator is not defined for the attributes, or a size is missing.
    """
    op.check_attributes(**attributes)
    recipe = _RECIPES[op.name]
    if missing := [name for name in recipe.sizes if name not in sizes]:
        raise OpError(f"a program for {op.name} needs the sizes of {', '.join(missing)}")
    shape = {name: sizes[name] for name in recipe.sizes}
    scratch, steps = recipe.make(dtype=dtype, target=target, **shape, **attributes)
    return Program(op, dtype, dict(attributes), shape, scratch, tuple(steps))


def _add_norm(
    *, dtype: str, target: int, hidden: int, epsilon: Any
) -> tuple[dict[str, Grid], list[Step]]:
    launch = add_norm(dtype=dtype, hidden=hidden, epsilon=float(epsilon))
    return {}, [Step(launch, {"total": "sum"})]


def _lsh_bucket(*, factors: Any, **shape: Any) -> tuple[dict[str, Grid], list[Step]]:
    return {}, [Step(lsh_bucket(factors=tuple(factors), **shape))]


def _chunk_attention(*, causal: Any, **shape: Any) -> tuple[dict[str, Grid], list[Step]]:
    return {}, [Step(chunk_attention(causal=bool(causal), **shape))]


def _sorted_chunk_attention(
    *,
    dtype: str,
    target: int,
    heads: int,
    head_dim: int,
    num_hashes: int,
    num_buckets: Any,
    chunk_length: Any,
    causal: Any,
    **reach: Any,
) -> tuple[dict[str, Grid], list[Step]]:
    """Sort by bucket, attend in every round, sum the rounds.

    A run with one chunk needs no sort. Up to one segment of the sort, a pass is one launch. For
    longer sequences it is less work to count first than to count everything in every program.
    """
    rounds = heads * num_hashes
    element = 4 if dtype == "float32" else 2
    scratch = {
        "order": Grid(times=4 * rounds, divisor=1),
        "lse": Grid(times=4 * rounds, divisor=1),
    }
    steps = []
    passes = sort_passes(heads=heads, num_hashes=num_hashes, num_buckets=num_buckets)
    before = "buckets"
    for number, each in enumerate(passes):
        last = number == len(passes) - 1
        after = "order" if last else f"order_{number}"
        if not last:
            scratch[after] = scratch["order"]
        names = {"order": before, "sorted_order": after}
        scratch["counts"] = Grid(times=4 * rounds * 2**each.bits, divisor=SEGMENT)
        several = max(chunk_length, SEGMENT)
        steps += [
            Step(each.place_alone, names, chunk_length + 1, several),
            Step(each.count, names, several + 1),
            Step(each.place, names, several + 1),
        ]
        before = after
    rows = {"dtype": dtype, "heads": heads, "head_dim": head_dim, "num_hashes": num_hashes}
    tile = attention_tile(dtype, head_dim, chunk_length, target, is_sorted=True)
    if tile.described:
        scratch["codes"] = scratch["scales"] = scratch["order"]
        steps.append(Step(describe_keys(**rows, chunk_length=chunk_length)))
    attend = attend_rounds(
        **rows,
        chunk_length=chunk_length,
        causal=bool(causal),
        target=target,
        described=tile.described,
        **reach,
    )
    if num_hashes == 1:
        return scratch, [*steps, Step(attend, {"outputs": "output"})]
    scratch["outputs"] = Grid(times=element * rounds * head_dim, divisor=1)
    combine = combine_rounds(**rows, chunk_length=chunk_length)
    return scratch, [*steps, Step(attend), Step(combine)]


@dataclass(frozen=True)
class _Recipe:
    """The construction of an operator's program.

    Attributes:
        sizes: the axes that are compiled in.
        make: returns the scratch buffers and the steps, for a type, a target, the sizes and the
            attributes.
    """

    sizes: tuple[str, ...]
    make: Callable[..., tuple[dict[str, Grid], list[Step]]]


_ROWS = ("heads", "head_dim")

_RECIPES = {
    ADD_NORM.name: _Recipe(("hidden",), _add_norm),
    LSH_BUCKET.name: _Recipe((*_ROWS, "num_hashes"), _lsh_bucket),
    SORTED_CHUNK_ATTENTION.name: _Recipe((*_ROWS, "num_hashes"), _sorted_chunk_attention),
    CHUNK_ATTENTION.name: _Recipe(_ROWS, _chunk_attention),
}
