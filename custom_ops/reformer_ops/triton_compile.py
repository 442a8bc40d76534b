"""Launches compiled ahead of time, with no GPU: PTX, cubin, and the resources they take."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_ops.errors import OpError, ReformerError
from reformer_ops.triton_launch import Launch

TARGETS = (75, 80, 86, 89, 90, 100, 120)
"""Compute capabilities: 80 is sm_80."""

_ALIGNED = [["tt.divisibility", 16]]
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


class CompilationError(ReformerError):
    """A kernel could not be compiled for a target."""


@dataclass(frozen=True)
class Compiled:
    """A kernel for one target, and what it takes to launch it.

    `shared_bytes` is what the launch has to ask for. `registers` and `stack_bytes` are those of a
    thread; `spill_bytes` are what it stores and loads because registers ran out.
    """

    entry: str
    target: int
    ptx: str
    cubin: bytes
    num_warps: int
    shared_bytes: int
    registers: int
    stack_bytes: int
    spill_bytes: int


def compile_launch(launch: Launch, target: int) -> Compiled:
    """Compile for a GPU of compute capability `target`.

    Pointers are taken to be aligned to 16 bytes, as every allocator of device memory aligns them.
    The result depends on the launch, the target and Triton's version and on nothing else: no
    environment variable, no cache, no path of this machine.

    The entry takes `launch.inputs`, `length` as i32, `launch.outputs` and two pointers more to
    scratch memory, which these kernels don't use: pass null.

    Raises:
        OpError: no such target, or the target has no such type.
        CompilationError: Triton is not installed, or refuses.
    """
    check_target(launch, target)
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError as error:
        raise CompilationError(
            f"compiling kernels needs triton, which does not load ({error}): pip install triton"
        ) from error
    kernel = launch.kernel
    if not isinstance(kernel, triton.runtime.JITFunction):
        raise CompilationError("kernels of an interpreter don't compile: unset TRITON_INTERPRET")
    types = {a.name: a.type for a in (*launch.inputs, *launch.outputs)} | {"length": "i32"}
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "constexpr") for name in kernel.arg_names},
        constexprs={(kernel.arg_names.index(n),): v for n, v in launch.constants.items()},
        attrs={
            (place,): _ALIGNED
            for place, name in enumerate(kernel.arg_names)
            if types.get(name, "").startswith("*")
        },
    )
    with _nothing_from_outside(triton) as folder:
        try:
            result = triton.compile(
                source, target=GPUTarget("cuda", target, 32), options=launch.options
            )
        except Exception as error:  # Triton's errors share no base class
            told = str(error).strip().splitlines()
            raise CompilationError(
                f"{launch.name} does not compile for sm_{target}: "
                f"{type(error).__name__}{f': {told[-1]}' if told else ''}"
            ) from error
        cubin: bytes = result.asm["cubin"]
        registers, stack = _usage(triton, cubin, folder)
    metadata: Any = result.metadata
    return Compiled(
        entry=metadata.name,
        target=target,
        ptx=result.asm["ptx"],
        cubin=cubin,
        num_warps=metadata.num_warps,
        shared_bytes=metadata.shared,
        registers=registers,
        stack_bytes=stack,
        spill_bytes=0,
    )


def check_target(launch: Launch, target: int) -> None:
    """OpError unless we compile for the target and it computes in the launch's types."""
    if target not in TARGETS:
        raise OpError(
            f"kernels are compiled for {', '.join(f'sm{t}' for t in TARGETS)}; got sm{target}"
        )
    if target < 80 and any(a.type == "*bf16" for a in (*launch.inputs, *launch.outputs)):
        raise OpError(f"sm{target} does not compute in bfloat16: use float16, or sm80 and later")


@contextmanager
def _nothing_from_outside(triton: Any) -> Iterator[Path]:
    """Triton's settings as we need them, its cache in a folder that goes away again."""
    knobs = triton.knobs
    with tempfile.TemporaryDirectory(prefix="reformer-triton-") as folder:
        with knobs.cache.scope(), knobs.compilation.scope():
            knobs.cache.dir = folder
            knobs.compilation.disable_line_info = True  # it names this machine's files
            knobs.compilation.override = False
            yield Path(folder)


def _usage(triton: Any, cubin: bytes, folder: Path) -> tuple[int, int]:
    """(registers, bytes of stack and local memory) of a thread, from the cubin itself."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    tool = triton.knobs.nvidia.cuobjdump.path
    text = subprocess.run(
        [tool, "--dump-resource-usage", str(path)], capture_output=True, text=True, check=True
    ).stdout
    found = _USAGE.search(text)
    if found is None:
        raise CompilationError(f"{tool} told nothing of a kernel's resources: {text.strip()!r}")
    registers, stack, _, local = map(int, found.groups())
    return registers, stack + local
