"""Small kernels around a few lines of PTX, to test single instructions."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .machine import Program
from .memory import Buffer
from .types import Type, type_named

Array = NDArray[Any]
NAMES = "abcdef"


@cache
def program(ptx: str) -> Program:
    return Program(ptx)


def kernel(parameters: list[str], body: str, *, threads: int = 32, shared: int = 0) -> str:
    """A module with one kernel. Parameters are declarations (".u64 .ptr .global in")."""
    declared = ", ".join(f".param {parameter}" for parameter in parameters)
    variable = f".shared .align 16 .b8 tile[{shared}];" if shared else ""
    return f"""
.version 8.7
.target sm_120a
.address_size 64
.visible .entry snippet({declared})
.reqntid {threads}
{{
    {variable}
{body}
    ret;
}}
"""


def apply(code: str, *operands: tuple[str, Any], result: str, more: str = "") -> Array:
    """The values of %r after `code`, with the operands in %a, %b and so on; a thread for each row.

    Each operand is a type ("s32") and an array that is converted to its bits; `pred` operands are
    booleans. `more` declares further registers. The result has its NumPy type (bits for bf16 and
    packed types).
    """
    arrays = [_bits(type_named(kind), values) for kind, values in operands]
    count = len(arrays[0])
    threads = -(-count // 32) * 32
    buffers = [
        Buffer(NAMES[i], np.concatenate([array, np.repeat(array[-1:], threads - count)]))
        for i, array in enumerate(arrays)
    ]
    kinds = [type_named(kind) for kind, _ in operands]
    out = type_named(result)
    lines = [f"    .reg .b64 %at, %base; .reg .b32 %tid; {more} mov.u32 %tid, %tid.x;"]
    for number, kind in enumerate(kinds):
        lines.append(_load(NAMES[number], kind))
    lines.append(f"    .reg {_register(out)} %r;\n    {code}\n    ld.param.b64 %base, [out];")
    width = 32 if out.kind == "pred" else out.bits
    lines.append(f"    mad.wide.u32 %at, %tid, {width // 8}, %base;")
    if out.kind == "pred":
        lines.append("    .reg .b32 %flag; selp.b32 %flag, 1, 0, %r; st.global.b32 [%at], %flag;")
    else:
        lines.append(f"    st.global.b{out.bits} [%at], %r;")
    parameters = [f".u64 .ptr .global {NAMES[i]}" for i in range(len(arrays))]
    text = kernel([*parameters, ".u64 .ptr .global out"], "\n".join(lines), threads=threads)
    found = np.zeros(threads, np.uint32 if out.kind == "pred" else out.unsigned)
    program(text).launch((1,), [*buffers, Buffer("out", found, output=True)])
    found = found[:count]
    return found.astype(np.bool_) if out.kind == "pred" else found.view(out.dtype)


def _register(kind: Type) -> str:
    return ".pred" if kind.kind == "pred" else f".b{kind.bits}"


def _bits(kind: Type, values: Any) -> Array:
    if kind.kind == "pred":
        return np.asarray(values, np.bool_).astype(np.uint32)
    if not kind.is_float:  # not with NumPy, which converts large numbers to floats
        mask = (1 << kind.bits) - 1
        return np.array([int(value) & mask for value in values], kind.unsigned)
    if kind.kind == "bf" or kind.count > 1:
        return np.asarray(values, kind.unsigned)
    return np.asarray(values, kind.dtype).view(kind.unsigned)


def _load(name: str, kind: Type) -> str:
    if kind.kind == "pred":
        return (
            f"    .reg .pred %{name}; .reg .b32 %{name}_flag; ld.param.b64 %base, [{name}];"
            f" mad.wide.u32 %at, %tid, 4, %base; ld.global.b32 %{name}_flag, [%at];"
            f" setp.ne.b32 %{name}, %{name}_flag, 0;"
        )
    return (
        f"    .reg .b{kind.bits} %{name}; ld.param.b64 %base, [{name}];"
        f" mad.wide.u32 %at, %tid, {kind.size}, %base; ld.global.b{kind.bits} %{name}, [%at];"
    )
