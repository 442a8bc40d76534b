"""The kernels compiled for GPUs: no kernel needs more resources than its GPU has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

from reformer_ops.core.errors import OpError
from reformer_ops.sorted_chunk_attention.triton_gradients import combine_gradients
from reformer_ops.triton.attention_backward import attention_backward
from reformer_ops.triton.compile import TARGETS, CompilationError, Compiled, compile_launch
from reformer_ops.triton.launch import Launch
from reformer_ops.triton_kernels import Hashing, LayerShape, local_layer, lsh_layer

SHARED = 48 * 1024
"""Bytes of shared memory that every launch may use."""

SHARED_IF_ASKED = 100 * 1024
"""Bytes that launches request on sm_90 and sm_100, so that two programs still fit on an SM."""

SPILLED = 336
"""Bytes that a thread may spill on sm_90. Measurements showed that half types are faster with these
spills; fp32, as three products of TF32, was measured with heads of 64 only."""

SPILLED_ON_BLACKWELL = 8
"""Bytes that a thread may spill on sm_120: two registers, with heads of an odd size in fp32."""

# Published configurations first.
SHAPES = {
    "crime-and-punishment": (LayerShape(2, 64, 64, causal=True), Hashing(1, (64, 128))),
    "enwik8-lsh": (LayerShape(8, 128, 256, causal=True), Hashing(4, (512,))),
    "enwik8-local": (LayerShape(8, 128, 128, causal=True), Hashing(1, (2,))),
    "small": (LayerShape(3, 7, 12, 1, 1), Hashing(2, (6, 10))),
    "odd": (LayerShape(4, 48, 100, 2, 1), Hashing(3, (30,))),
    "wide": (LayerShape(2, 256, 64), Hashing(2, (16,))),
}
TYPES = ("float32", "float16", "bfloat16")


def launches(name: str, dtype: str, target: int) -> dict[str, Launch]:
    shape, hashing = SHAPES[name]
    return {
        **local_layer(shape, dtype=dtype, target=target),
        **lsh_layer(shape, hashing, dtype=dtype, target=target),
    }


def combinations() -> Iterator[Any]:
    quick = {
        ("crime-and-punishment", "float32", 80),
        ("crime-and-punishment", "float16", 75),
        ("enwik8-lsh", "float16", 90),
        ("enwik8-lsh", "float32", 120),
        ("odd", "bfloat16", 100),
    }
    for name in SHAPES:
        for dtype in TYPES:
            for target in TARGETS:
                if dtype != "bfloat16" or target >= 80:
                    marks = [] if (name, dtype, target) in quick else [pytest.mark.slow]
                    yield pytest.param(
                        name, dtype, target, id=f"{name}-{dtype}-sm{target}", marks=marks
                    )


@pytest.mark.parametrize(("name", "dtype", "target"), list(combinations()))
def test_no_spills_and_little_shared_memory(name: str, dtype: str, target: int) -> None:
    for kernel, launch in launches(name, dtype, target).items():
        compiled = compile_launch(launch, target)
        allowed = {90: SPILLED, 120: SPILLED_ON_BLACKWELL}.get(target, 0)
        assert compiled.spill_bytes <= allowed, kernel
        assert compiled.stack_bytes <= compiled.spill_bytes, kernel
        assert compiled.shared_bytes <= (SHARED_IF_ASKED if target in (90, 100) else SHARED), kernel
        assert compiled.registers <= launch.max_registers, kernel
        assert compiled.num_warps == launch.num_warps, kernel


def gradient_combinations() -> Iterator[Any]:
    quick = {("crime-and-punishment", "float32", 90), ("enwik8-lsh", "bfloat16", 80)}
    for name in SHAPES:
        for dtype in TYPES:
            for target in TARGETS:
                if dtype != "bfloat16" or target >= 80:
                    marks = [] if (name, dtype, target) in quick else [pytest.mark.slow]
                    yield pytest.param(name, dtype, target, marks=marks)


@pytest.mark.parametrize(("name", "dtype", "target"), list(gradient_combinations()))
def test_gradients_fit_every_gpu(name: str, dtype: str, target: int) -> None:
    shape, hashing = SHAPES[name]
    sizes: dict[str, Any] = {
        "dtype": dtype,
        "heads": shape.heads,
        "head_dim": shape.head_dim,
        "chunk_length": shape.chunk_length,
    }
    launches = [
        launch
        for num_hashes in (None, hashing.num_hashes)
        for launch in attention_backward(
            **sizes,
            num_hashes=num_hashes,
            num_chunks_before=shape.num_chunks_before,
            num_chunks_after=shape.num_chunks_after,
            causal=shape.causal,
            dropout=0.1,
            target=target,
        )
    ]
    for launch in (*launches, combine_gradients(**sizes, num_hashes=hashing.num_hashes)):
        compiled = compile_launch(launch, target)
        assert compiled.spill_bytes <= (512 if shape.head_dim > 128 else 128), launch.name
        assert compiled.shared_bytes <= (56 if shape.head_dim > 128 else 48) * 1024, launch.name


def example(target: int = 80) -> Launch:
    return launches("small", "float16", target)["attend_rounds"]


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_launch(example(), 80)


def test_arguments_are_those_of_the_launch(compiled: Compiled) -> None:
    """Inputs, the length, outputs, and two pointers that the kernel does not read."""
    head = compiled.ptx.split(f".entry {compiled.entry}(")[1].split(")\n")[0]
    found = re.findall(r"\.param \.(u64|u32)", head)
    assert found == ["u64"] * 4 + ["u32"] + ["u64"] * 2 + ["u64"] * 2
    body = compiled.ptx.split("{", 1)[1]
    read = set(map(int, re.findall(rf"\[{compiled.entry}_param_(\d+)\]", body)))
    assert read == set(range(7))


def test_launch_is_as_wide_as_it_says(compiled: Compiled) -> None:
    assert f".reqntid {32 * compiled.num_warps}" in compiled.ptx
    assert ".target sm_80" in compiled.ptx
    assert compiled.cubin.startswith(b"\x7fELF")


def test_half_types_use_the_tensor_cores(compiled: Compiled) -> None:
    assert "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" in compiled.ptx


def test_fp32_is_never_tf32_alone() -> None:
    """On sm_90 a product of fp32 is computed as three of TF32; elsewhere it stays in fp32."""
    for launch in launches("crime-and-punishment", "float32", 80).values():
        assert "tf32" not in compile_launch(launch, 80).ptx
        assert launch.constants.get("PRECISION", "ieee") == "ieee"
    for launch in launches("crime-and-punishment", "float32", 90).values():
        assert launch.constants.get("PRECISION", "tf32x3") == "tf32x3"


def test_same_bytes_whatever_the_environment(
    compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "0")
    monkeypatch.setenv("TRITON_F32_DEFAULT", "tf32")
    monkeypatch.setenv("DISABLE_PTXAS_OPT", "1")
    before = dict(os.environ)
    assert compile_launch(example(), 80) == compiled
    assert dict(os.environ) == before


def test_no_path_of_this_machine(compiled: Compiled) -> None:
    for text in (compiled.ptx, compiled.cubin.decode("latin-1")):
        assert "triton_kernel.py" not in text
        assert "/reformer_ops" not in text


def test_unknown_target() -> None:
    with pytest.raises(OpError, match=r"sm75, sm80.*got sm70"):
        compile_launch(example(), 70)


def test_bfloat16_is_not_for_turing() -> None:
    launch = launches("small", "bfloat16", 75)["attend_rounds"]
    with pytest.raises(OpError, match="sm75 does not compute in bfloat16"):
        compile_launch(launch, 75)


def test_what_triton_refuses_is_told_in_a_line() -> None:
    launch = example()
    broken = Launch(
        **{
            **{field: getattr(launch, field) for field in launch.__dataclass_fields__},
            "constants": {**launch.constants, "BLOCK_N": 24},
        }
    )
    with pytest.raises(CompilationError, match="attend_rounds_kernel does not compile for sm_80"):
        compile_launch(broken, 80)
