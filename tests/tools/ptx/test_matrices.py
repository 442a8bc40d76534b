"""Tensor core instructions of the emulator, compared with products of whole matrices.

The positions of a fragment's elements are written here as in the manual, element by element.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from .machine import Program
from .memory import Buffer
from .snippets import kernel

Array = NDArray[Any]


def a_place(lane: int, i: int, depth: int, *, words: bool) -> tuple[int, int]:
    """Row and column of a lane's element a_i."""
    group, member = lane >> 2, lane % 4
    if words:  # tf32
        return group + 8 * (i % 2), member + 4 * (i // 2)
    row = group if (i < 2 or 4 <= i < 6) else group + 8
    return row, member * 2 + (i & 1) + (8 if i >= 4 else 0)


def b_place(lane: int, i: int, depth: int, *, words: bool) -> tuple[int, int]:
    group, member = lane >> 2, lane % 4
    if words:
        return member + 4 * i, group
    return member * 2 + (i & 1) + (8 if i >= 2 else 0), group


def c_place(lane: int, i: int) -> tuple[int, int]:
    group, member = lane >> 2, lane % 4
    return (group if i < 2 else group + 8), member * 2 + (i & 1)


def to_bits(values: Array, kind: str) -> Array:
    if kind == "bf16":
        return torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    dtype = {"f16": np.float16, "tf32": np.float32, "f32": np.float32}[kind]
    bits = np.ascontiguousarray(values.astype(dtype)).view(f"u{np.dtype(dtype).itemsize}")
    return bits & np.uint32(0xFFFFE000) if kind == "tf32" else bits


def from_bits(bits: Array, kind: str) -> Array:
    if kind == "bf16":
        return torch.from_numpy(bits.copy()).view(torch.bfloat16).double().numpy()
    return bits.view(np.float16 if kind == "f16" else np.float32).astype(np.float64)


CASES = [
    ("m16n8k8", "f16", "f32"),
    ("m16n8k16", "f16", "f32"),
    ("m16n8k16", "f16", "f16"),
    ("m16n8k8", "bf16", "f32"),
    ("m16n8k16", "bf16", "f32"),
    ("m16n8k4", "tf32", "f32"),
    ("m16n8k8", "tf32", "f32"),
]


@pytest.mark.parametrize(("shape", "kind", "result"), CASES)
def test_matrix_product(shape: str, kind: str, result: str) -> None:
    depth, words = int(shape[6:]), kind == "tf32"
    rng = np.random.default_rng(0)
    a = to_bits(rng.standard_normal((16, depth)).astype(np.float32), kind)
    b = to_bits(rng.standard_normal((depth, 8)).astype(np.float32), kind)
    c = to_bits(rng.standard_normal((16, 8)).astype(np.float32), result)

    def registers(count: int, place: Any, matrix: Array) -> Array:
        rows = [[matrix[place(lane, i)] for i in range(count)] for lane in range(32)]
        return np.ascontiguousarray(np.array(rows, matrix.dtype)).view(np.uint32)

    a_words = registers(16 * depth // 32, lambda n, i: a_place(n, i, depth, words=words), a)
    b_words = registers(depth * 8 // 32, lambda n, i: b_place(n, i, depth, words=words), b)
    c_words = registers(4, c_place, c)
    outcome = np.zeros_like(c_words)
    body = [".reg .b32 %tid; .reg .b64 %at, %base; mov.u32 %tid, %tid.x;"]
    for name, array in (("a", a_words), ("b", b_words), ("c", c_words)):
        body.append(f".reg .b32 %{name}<{array.shape[1]}>; ld.param.b64 %base, [{name}];")
        body.append(f"mad.wide.u32 %at, %tid, {4 * array.shape[1]}, %base;")
        for i in range(array.shape[1]):
            body.append(f"ld.global.b32 %{name}{i}, [%at+{4 * i}];")
    sums = c_words.shape[1]
    vectors = [
        "{" + ", ".join(f"%{name}{i}" for i in range(count)) + "}"
        for name, count in (
            ("d", sums),
            ("a", a_words.shape[1]),
            ("b", b_words.shape[1]),
            ("c", sums),
        )
    ]
    body.append(f".reg .b32 %d<{sums}>;")
    types = f"{result}.{kind}.{kind}.{result}"
    body.append(f"mma.sync.aligned.{shape}.row.col.{types} {', '.join(vectors)};")
    body.append(f"ld.param.b64 %base, [d]; mad.wide.u32 %at, %tid, {4 * sums}, %base;")
    body += [f"st.global.b32 [%at+{4 * i}], %d{i};" for i in range(sums)]
    text = kernel([f".u64 .ptr .global {name}" for name in "abcd"], "\n".join(body))
    buffers = [Buffer(n, x) for n, x in (("a", a_words), ("b", b_words), ("c", c_words))]
    Program(text).launch((1,), [*buffers, Buffer("d", outcome, output=True)])

    wanted = from_bits(a, kind) @ from_bits(b, kind) + from_bits(c, result)
    found = outcome.view(np.float32 if result == "f32" else np.float16)
    for lane in range(32):
        for i in range(4):
            assert found[lane, i] == wanted[c_place(lane, i)].astype(found.dtype)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_loading_and_storing_matrices(count: int, transposed: bool) -> None:
    """Lane 8 i + j has the address of row j of matrix i; a lane gets two elements of a row."""
    matrices = np.arange(count * 64, dtype=np.uint16).reshape(count, 8, 8) * 7 + 1
    trans = ".trans" if transposed else ""
    registers = "{" + ", ".join(f"%v{i}" for i in range(count)) + "}"
    shape = f"sync.aligned.m8n8.x{count}{trans}.shared.b16"
    # Rows are stored 32 bytes apart, in reverse.
    body = f"""
        .reg .b32 %tid, %place, %v<{count}>, %w<4>, %far; .reg .b64 %at, %base; .reg .pred %p;
        mov.u32 %tid, %tid.x;
        ld.param.b64 %base, [rows];
        mad.wide.u32 %at, %tid, 16, %base;
        mul.lo.u32 %place, %tid, 32;
        sub.u32 %place, 992, %place;
        mov.u32 %far, tile;
        add.u32 %place, %place, %far;
        setp.lt.u32 %p, %tid, {8 * count};
        @%p ld.global.v4.b32 {{%w0, %w1, %w2, %w3}}, [%at];
        @%p st.shared.v4.b32 [%place], {{%w0, %w1, %w2, %w3}};
        bar.sync 0;
        ldmatrix.{shape} {registers}, [%place];
        ld.param.b64 %base, [fragments];
        mad.wide.u32 %at, %tid, {4 * count}, %base;
        {" ".join(f"st.global.b32 [%at+{4 * i}], %v{i};" for i in range(count))}
        bar.sync 0;
        stmatrix.{shape} [%place], {registers};
        bar.sync 0;
        @%p ld.shared.v4.b32 {{%w0, %w1, %w2, %w3}}, [%place];
        ld.param.b64 %base, [again];
        mad.wide.u32 %at, %tid, 16, %base;
        @%p st.global.v4.b32 [%at], {{%w0, %w1, %w2, %w3}};
    """
    names = ("rows", "fragments", "again")
    text = kernel([f".u64 .ptr .global {name}" for name in names], body, shared=1024)
    fragments, again = np.zeros((32, count), np.uint32), np.zeros_like(matrices)
    Program(text).launch(
        (1,),
        [
            Buffer("rows", matrices),
            Buffer("fragments", fragments, output=True),
            Buffer("again", again, output=True),
        ],
    )
    for lane in range(32):
        for i in range(count):
            matrix = matrices[i].T if transposed else matrices[i]
            pair = matrix[lane // 4, 2 * (lane % 4) : 2 * (lane % 4) + 2]
            assert fragments[lane, i] == int(pair[0]) | int(pair[1]) << 16
    assert (again == matrices).all()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_matrix_product_of_four_warps(keep: bool, turned: bool) -> None:
    """`wgmma` of 64 x 16 in registers and 16 x 8 (16 x 16 if turned) in swizzled shared memory.

    The swizzle is that of 32 bytes: if bit 7 of an address is set, bit 4 is inverted.
    """
    columns = 16 if turned else 8
    rng = np.random.default_rng(0)
    a = rng.standard_normal((64, 16)).astype(np.float16)
    b = rng.standard_normal((16, columns)).astype(np.float16)
    c = rng.standard_normal((64, columns)).astype(np.float32)
    fragments = [
        [a[16 * (t // 32) + row, column] for row, column in places]
        for t in range(128)
        for places in [[a_place(t % 32, i, 16, words=False) for i in range(8)]]
    ]
    a_words = np.array(fragments, np.float16).view(np.uint32)
    rows = np.ascontiguousarray(b if turned else b.T)  # 32 bytes each
    memory = np.zeros((len(rows) * 2, 8), np.float16)
    for number, row in enumerate(rows):
        for half in range(2):
            address = 32 * number + 16 * half
            memory[(address ^ (address >> 7 & 1) << 4) // 16] = row[8 * half : 8 * half + 8]

    def c_index(thread: int, i: int) -> tuple[int, int]:
        row, column = c_place(thread % 32, i % 4)
        return 16 * (thread // 32) + row, column + 8 * (i // 4)

    count = columns // 2
    c_words = np.array([[c[c_index(t, i)] for i in range(count)] for t in range(128)], np.float32)
    sums = ", ".join(f"%d{i}" for i in range(count))
    descriptor = 256 >> 4 << 32 | 3 << 62
    body = f"""
        .reg .b32 %tid, %place, %a<4>, %d<{count}>, %w<4>; .reg .b64 %at, %base, %layout;
        .reg .pred %p, %keep;
        mov.u32 %tid, %tid.x; mov.u32 %place, tile; mad.lo.u32 %place, %tid, 16, %place;
        ld.param.b64 %base, [b]; mad.wide.u32 %at, %tid, 16, %base;
        setp.lt.u32 %p, %tid, {len(memory)};
        @%p ld.global.v4.b32 {{%w0, %w1, %w2, %w3}}, [%at];
        @%p st.shared.v4.b32 [%place], {{%w0, %w1, %w2, %w3}};
        fence.proxy.async.shared::cta;
        bar.sync 0;
        ld.param.b64 %base, [a]; mad.wide.u32 %at, %tid, 16, %base;
        ld.global.v4.b32 {{%a0, %a1, %a2, %a3}}, [%at];
        ld.param.b64 %base, [c]; mad.wide.u32 %at, %tid, {4 * count}, %base;
        {" ".join(f"ld.global.b32 %d{i}, [%at+{4 * i}];" for i in range(count))}
        mov.b64 %layout, {descriptor}; mov.pred %keep, {int(keep)};
        wgmma.fence.sync.aligned;
        wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16
            {{{sums}}}, {{%a0, %a1, %a2, %a3}}, %layout, %keep, 1, 1, {int(turned)};
        wgmma.commit_group.sync.aligned;
        wgmma.wait_group.sync.aligned 0;
        ld.param.b64 %base, [d]; mad.wide.u32 %at, %tid, {4 * count}, %base;
        {" ".join(f"st.global.b32 [%at+{4 * i}], %d{i};" for i in range(count))}
    """
    text = kernel([f".u64 .ptr .global {n}" for n in "abcd"], body, threads=128, shared=512)
    found = np.zeros((128, count), np.float32)
    buffers = [Buffer(n, x) for n, x in (("a", a_words), ("b", memory), ("c", c_words))]
    Program(text).launch((1,), [*buffers, Buffer("d", found, output=True)])
    wanted = a.astype(np.float64) @ b.astype(np.float64) + (c if keep else 0)
    for t in range(128):
        for i in range(count):
            assert found[t, i] == np.float32(wanted[c_index(t, i)])
